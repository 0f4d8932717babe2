"""Models: what a path stands for, whether it can be trained, and the model in memory.

Before training, without torch: `sources` resolves a path to pinned weights, `folder` and
`weight_files` read them, `file_check` and `load_check` say what is wrong with them, `pooling` how
they make one vector of a text, `tiny_configs` the sizes of the tiny families. `facts` are what a
trial takes, derived by `formulas` from a `shape`, or measured; `memory` adds them up. `meta_load`
is the process behind `load_check`, with torch: there, `probe` measures a model, by a `meta_pass`
that `emulation` makes like one elsewhere.

In training: `base` loads a model, by way of `heads`, `vocabulary`, `device` and `float16`, and
`methods` fine-tunes it, `checkpointing` with less memory; `forward_pass`, `flat`, `first_token`,
`full_pass` and `fused` make its passes fast, and `transfer` copies without waiting for a GPU;
`frozen` loads a model that only gives features; `tiny` builds the tiny families.

Doors: any module but `meta_load`; they are named, not re-exported, since half of them import
torch. Never imports Ray, nor anything that trains.
"""
