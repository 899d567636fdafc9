# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ../attention.py for networks of four stages, see features.py.
_base_ = './features.py'

distiller = dict(
    distill_losses={
        f'loss_stage{i}': dict(
            _delete_=True, type='ATLoss', loss_weight=1000.0
        )
        for i in (1, 2, 3, 4)
    }
)
