# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Attention transfer (Zagoruyko and Komodakis 2017) at the ends of the stages:
# where in the image the squared features are large, not which channels. Each
# loss is a mean over pixels of differences of unit vectors, hence tiny; 1,000
# is the authors' weight. For networks of three stages, see features.py; for
# others there is four_stages/attention.py.
_base_ = './features.py'

distiller = dict(
    distill_losses={
        f'loss_stage{i}': dict(
            _delete_=True, type='ATLoss', loss_weight=1000.0
        )
        for i in (1, 2, 3)
    }
)
