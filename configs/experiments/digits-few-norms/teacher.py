# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = '../digits-few/teacher.py'
