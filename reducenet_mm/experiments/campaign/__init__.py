# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Campaigns: arms times seeds at counted cost, and what can be concluded."""
