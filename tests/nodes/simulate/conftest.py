import numpy as np
import pytest

from alsflow.nodes.simulate.anatomy import Source, prepare_blueprint

VOXEL = 3.0  # mm
CENTRE = np.array([5.0, -10.0, 8.0])  # mm
WHITE_RADIUS, BRAIN_RADIUS, HULL_RADIUS = 36.0, 48.0, 52.0  # mm


def ball_source() -> Source:
    """A white ball in a grey shell in a CSF shell; atlas 1 is its left half, 2 its right."""
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = CENTRE - 63.0
    index = np.indices((43, 43, 43)).reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    radius = np.sqrt(((points - CENTRE[:, None]) ** 2).sum(0)).reshape(43, 43, 43)

    def within(limit):
        return np.clip((limit - radius) / VOXEL + 0.5, 0, 1).astype(np.float32)

    wm = within(WHITE_RADIUS)
    gm = within(BRAIN_RADIUS) - wm
    csf = within(HULL_RADIUS) - wm - gm
    halves = np.where(points[0] < CENTRE[0], 1, 2).reshape(43, 43, 43)
    return Source(gm, wm, csf, affine, np.where(radius < 60, halves, 0), affine)


@pytest.fixture(scope="session")
def ball_blueprint():
    return prepare_blueprint(ball_source())


@pytest.fixture(scope="session")
def template_blueprint():
    from alsflow.interfaces.simulate import template_source

    return prepare_blueprint(template_source())


@pytest.fixture(scope="session")
def bundles():
    from alsflow.nodes.simulate.tracts import lay_bundles

    return lay_bundles()
