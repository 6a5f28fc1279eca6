"""RT Structure Sets: contours from and to voxels."""
