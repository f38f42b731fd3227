"""People built of capsules and spheres, in named poses, with 18 key points.

Key points are in OpenPose's order (`KEYPOINTS`). Local axes of a person: x to
the viewer's right when facing the camera, y up, -z forward; so the person's
right hand has a negative x.
"""

import numpy as np

from maquette.diorama.solids import Array, Capsule, Solid, Sphere, about_y, vector
from maquette.diorama.things import COLOURS, Paint, Part, Thing, colour_index, linear, pick_colour, plain, with_article

KEYPOINTS = (
    "nose", "neck",
    "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
"""Names of the 18 key points, in OpenPose's order."""

Bend = tuple[float, float]  # degrees (outward from the body, forward) from hanging straight down

POSES = ("standing", "waving", "walking", "running", "with raised arms", "with open arms")

UPPER_ARM, FOREARM, THIGH, SHIN = 0.30, 0.27, 0.42, 0.42  # m
HEAD_RADIUS = 0.17
SKINS = ((0.98, 0.80, 0.66), (0.90, 0.68, 0.50), (0.66, 0.44, 0.29), (0.42, 0.27, 0.18))
HAIRS = ((0.12, 0.08, 0.06), (0.35, 0.20, 0.10), (0.75, 0.55, 0.25), (0.45, 0.12, 0.06))
TROUSERS = ((0.13, 0.18, 0.38), (0.20, 0.20, 0.22), (0.45, 0.38, 0.28))


def person(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random person standing at a position (3,) on the ground."""
    pose = POSES[rng.integers(len(POSES))]
    sideways = rng.choice([-1, 1]) * rng.uniform(35, 75) if pose in ("walking", "running") else rng.uniform(-35, 35)
    turn = about_y(np.radians(sideways))
    joints = _stand(_joints(_bends(rng, pose)))
    world = {name: position + turn @ at for name, at in joints.items()}
    shirt = pick_colour(rng)
    skin, hair, trousers = (linear(tones[rng.integers(len(tones))]) for tones in (SKINS, HAIRS, TROUSERS))
    parts = _dress(world, turn, linear(COLOURS[shirt]), colour_index(shirt), skin, hair, trousers)
    skeleton = np.stack([world[name] for name in KEYPOINTS])
    phrase = f"person in {with_article(shirt)} shirt {pose}"
    return Thing("person", phrase, parts, position, turn, 0.35, skeleton, turn @ vector(0, 0, -1))


def _bends(rng: np.random.Generator, pose: str) -> dict[str, Bend]:
    """Angles of each limb in a pose, with random variation; the leading side is random."""
    lead, other = ("right", "left") if rng.random() < 0.5 else ("left", "right")
    bends: dict[str, Bend] = {}
    for side in ("right", "left"):
        bends |= {f"{side} upper arm": (12, 0), f"{side} forearm": (6, 8)}
        bends |= {f"{side} thigh": (5, 0), f"{side} shin": (3, 0)}
    both = {
        "with raised arms": {"upper arm": (140, 0), "forearm": (165, 0)},
        "with open arms": {"upper arm": (85, 0), "forearm": (92, 0)},
    }.get(pose, {})
    bends |= {f"{side} {limb}": bend for side in ("right", "left") for limb, bend in both.items()}
    if pose == "waving":
        bends |= {f"{lead} upper arm": (105, 0), f"{lead} forearm": (170, 0)}
    if pose in ("walking", "running"):
        stride = 28 if pose == "walking" else 48
        bends |= {f"{lead} thigh": (3, stride), f"{lead} shin": (2, 0.3 * stride if pose == "walking" else -20)}
        bends |= {f"{other} thigh": (3, -0.7 * stride), f"{other} shin": (2, -1.6 * stride)}
        bends |= {f"{other} upper arm": (8, stride), f"{lead} upper arm": (8, -stride)}
        lift = 20 if pose == "walking" else 85
        bends |= {f"{other} forearm": (4, stride + lift), f"{lead} forearm": (4, -stride + lift)}
    return {limb: (out + rng.uniform(-6, 6), fore + rng.uniform(-6, 6)) for limb, (out, fore) in bends.items()}


def _along(side: int, bend: Bend) -> Array:
    """Unit direction (3,) of a bent limb; `side` is -1 for the right, 1 for the left."""
    out, fore = np.radians(bend)
    return vector(side * np.sin(out), -np.cos(out) * np.cos(fore), -np.cos(out) * np.sin(fore))


def _joints(bends: dict[str, Bend]) -> dict[str, Array]:
    """Positions (3,) of the joints and of the face, in the person's axes."""
    head = vector(0, 1.62, -0.03)
    joints = {"neck": vector(0, 1.42, 0), "head": head, "nose": head + HEAD_RADIUS * vector(0, -0.05, -1)}
    for name, side in (("right", -1), ("left", 1)):
        shoulder, hip = vector(side * 0.20, 1.38, 0), vector(side * 0.10, 0.86, 0)
        elbow = shoulder + np.float32(UPPER_ARM) * _along(side, bends[f"{name} upper arm"])
        knee = hip + np.float32(THIGH) * _along(side, bends[f"{name} thigh"])
        joints |= {
            f"{name} shoulder": shoulder,
            f"{name} elbow": elbow,
            f"{name} wrist": elbow + np.float32(FOREARM) * _along(side, bends[f"{name} forearm"]),
            f"{name} hip": hip,
            f"{name} knee": knee,
            f"{name} ankle": knee + np.float32(SHIN) * _along(side, bends[f"{name} shin"]),
            f"{name} eye": head + HEAD_RADIUS * vector(side * 0.38, 0.18, -0.90),
            f"{name} ear": head + HEAD_RADIUS * vector(side, 0, 0),
        }
    return joints


def _stand(joints: dict[str, Array]) -> dict[str, Array]:
    """Move the body up or down until the lower foot touches the ground."""
    sole = min(joints["right ankle"][1], joints["left ankle"][1]) - 0.09
    return {name: at - vector(0, sole, 0) for name, at in joints.items()}


def _dress(
    at: dict[str, Array], turn: Array, shirt: Array, colour: int, skin: Array, hair: Array, trousers: Array
) -> tuple[Part, ...]:
    """Solids around the joints, with the paints of skin, hair and clothes."""
    forward, up = turn @ vector(0, 0, -1), vector(0, 1, 0)
    head = at["head"]
    parts = [
        Part(Sphere(head, HEAD_RADIUS), _face(skin, head, turn, at)),
        Part(Sphere(head + 0.035 * up - 0.045 * forward, HEAD_RADIUS + 0.012), plain(hair)),
        Part(Capsule(head - 0.1 * up, at["neck"], 0.07), plain(skin)),
    ]
    chest, belly = at["neck"] - 0.17 * up, (at["right hip"] + at["left hip"]) / 2 + 0.06 * up
    cloth: list[tuple[Solid, Paint, int]] = [
        (Capsule(at["right shoulder"] - 0.03 * up, at["left shoulder"] - 0.03 * up, 0.095), plain(shirt), colour),
        (Capsule(chest, belly, 0.175), plain(shirt), colour),
    ]
    shoe = linear((0.12, 0.09, 0.08))
    for side in ("right", "left"):
        elbow, wrist, knee, ankle = (at[f"{side} {joint}"] for joint in ("elbow", "wrist", "knee", "ankle"))
        cloth += [
            (Capsule(at[f"{side} shoulder"], elbow, 0.075), plain(shirt), colour),
            (Capsule(elbow, wrist, 0.06), plain(skin), 0),
            (Sphere(wrist, 0.078), plain(skin), 0),
            (Capsule(at[f"{side} hip"], knee, 0.1), plain(trousers), 0),
            (Capsule(knee, ankle, 0.08), plain(trousers), 0),
            (Capsule(ankle - 0.02 * up, ankle - 0.02 * up + 0.14 * forward, 0.07), plain(shoe), 0),
        ]
    return (*parts, *(Part(solid, paint, index) for solid, paint, index in cloth))


def _face(skin: Array, head: Array, turn: Array, at: dict[str, Array]) -> Paint:
    """Skin with two dark eyes. It is painted by normals: points are relative to the person's feet, not to the head."""
    eyes = [(at[f"{side} eye"] - head) @ turn for side in ("right", "left")]

    def paint(points: Array, normals: Array) -> Array:
        from_centre = normals * np.float32(HEAD_RADIUS)
        near = np.minimum(*(np.sum((from_centre - eye) ** 2, axis=-1) for eye in eyes))
        return np.where((near < 0.042**2)[:, None], vector(0.01, 0.01, 0.01), skin)

    return paint
