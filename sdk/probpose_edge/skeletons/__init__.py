"""Names, sigmas, limbs and mirror pairs of keypoints."""
