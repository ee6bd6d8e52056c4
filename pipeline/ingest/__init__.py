"""From outside to one de-identified BIDS-PET dataset."""
