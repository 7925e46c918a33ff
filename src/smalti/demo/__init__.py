"""Draws a synthetic cohort with known truth: H&E-like images, masks, labels, and the faults of real data."""

from .cohort import draw_cohort, draw_plan
from .plan import CLASS_SHARES, CohortPlan, ImagePlan, plan_cohort

__all__ = ["CLASS_SHARES", "CohortPlan", "ImagePlan", "draw_cohort", "draw_plan", "plan_cohort"]
