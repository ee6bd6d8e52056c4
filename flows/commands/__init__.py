"""The commands of `taucal`, by who types them."""
