# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# An average of the weights, validated and saved when it is the best so far.
_base_ = './teacher.py'

custom_hooks = [dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
