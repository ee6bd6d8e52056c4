"""CenTauR: SUVR in the masks of the CenTauR project, and z-scores where a processing is calibrated to it."""
