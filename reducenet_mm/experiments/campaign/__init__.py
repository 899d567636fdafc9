# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Campaigns: arms times seeds at counted cost, and what can be concluded.

An ``Arm`` of the config is planned as a ``PlannedArm``; with a seed it is a
``Cell``, done by a process as a ``Job``, and its record a line of the ledger.
"""
