# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The assumption under test: bigger networks learn better classifiers. The
# student keeps the teacher's; everything else starts from the teacher, trains.
reuse = dict(inherit='all', freeze=['classifier'])
norm_stats = 'live'
