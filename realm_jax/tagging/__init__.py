"""Salient spans from a BERT that is trained to tag them."""
