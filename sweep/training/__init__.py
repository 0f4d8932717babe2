"""Training: one trial, an epoch at a time.

`trial` is what a trial is, whichever engine trains it: `solo` trains one at a time, `packed` many
at once on one base model. `engine` holds what engines share, `batches`, `optimizer`, `loss_scale`,
`metrics` and `checkpoint` the parts, and `baselines` the reference methods.

Doors: `solo.SoloEngine`, `packed.engine.PackedEngine`, `baselines.run_baseline`,
`checkpoint.read_checkpoint`, `checkpoint.is_storage_full`. Not re-exported, because they import
torch. Never imports Ray: that is for `sweep.workers`.
"""
