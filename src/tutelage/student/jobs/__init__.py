"""Trainings and evaluations as independent jobs in processes of their own."""
