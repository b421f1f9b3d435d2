"""Echo-planar series of any contrast: grids, poses of the head, and one interpolation."""
