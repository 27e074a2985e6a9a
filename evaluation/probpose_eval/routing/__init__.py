"""What routing between two models is worth: accuracy against average cost, beside random routing and the best one."""
