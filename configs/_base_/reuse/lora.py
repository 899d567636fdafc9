# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The whole student is frozen, only the branches of `backbone.lora` train; they
# merge into its convolutions afterwards. Its norms keep the statistics that
# the student starts from, those inside a branch follow the batches. Without
# such branches nothing would train, so set them too, in the architecture:
#   backbone = dict(lora=dict(kind='kxk_1x1', expansion=2, inner_norm=True))
reuse = dict(inherit='all', freeze='all')
norm_stats = 'inherited'
