"""Training: one trial, an epoch at a time.

`trial` is what a trial is, whichever engine trains it: `solo` trains one at a time, `packed` many
at once on one base model. `engine` holds what engines share, `batches`, `optimizer`, `loss_scale`,
`metrics` and `checkpoint` the parts, and `baselines` the reference methods (`fits`), some of which
read `features` of a pretrained model (`text_features`, without torch). `classifier` is what a trial
leaves, and `serving` loads it, or a reference, to be used; `speed` measures that.

Doors: `solo.SoloEngine`, `packed.engine.PackedEngine`, `baselines.run_baseline`,
`baselines.run_on_features`, `features.compute_features`, `text_features.TextFeatures`,
`checkpoint.read_checkpoint`, `checkpoint.is_storage_full`, `classifier.build_classifier`,
`speed.measure_use`. Not re-exported, because most import torch. Never imports Ray: that is for
`sweep.workers`.
"""
