"""From BIDS-PET to SUVR in template space, with quality findings."""
