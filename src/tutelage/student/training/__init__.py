"""Training one student: loss, optimiser steps, checkpoints, several processes."""
