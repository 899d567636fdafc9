# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The whole student is frozen, only the branches of `backbone.lora` train; they
# merge into its convolutions afterwards. Its norms keep the statistics that
# the student starts from, those inside a branch follow the batches.
reuse = dict(inherit='all', freeze='all')
norm_stats = 'inherited'
