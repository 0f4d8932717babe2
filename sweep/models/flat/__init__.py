"""Passes over flat rows of tokens: all texts of a batch one after another, without padding.

Layers work on tokens alike, so they take the row as it is; attention alone works inside texts. A
batch of one trial and one of a pack differ only in how many adapters their layers have.

Doors: `texts.FlatTexts`, `attention.attend`, `decoders.FLAT_DECODERS`, `encoders.FLAT_ENCODERS`.
"""
