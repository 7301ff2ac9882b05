import torch
from scipy import ndimage

from pipeline.config import Augment
from pipeline.training.augment import augment


def square(n=64, size=13):
    images = torch.zeros(n, 1, size, size, dtype=torch.uint8)
    images[:, :, 5:8, 5:8] = 200
    return images


def test_shifts_are_whole_pixels_up_to_the_limit_in_all_directions():
    moved = augment(square(), Augment(shift=2), torch.Generator().manual_seed(0))
    seen = set()
    for image in moved[:, 0]:
        rows, columns = torch.nonzero(image > 100, as_tuple=True)
        down, right = rows.min().item() - 5, columns.min().item() - 5
        seen.add((down, right))
        torch.testing.assert_close(image.roll((-down, -right), (0, 1)), square(1)[0, 0].float())
    assert {row for row, _ in seen} == {column for _, column in seen} == {-2, -1, 0, 1, 2}


def test_what_comes_in_from_outside_repeats_the_border():
    bright = torch.full((20, 1, 9, 9), 250, dtype=torch.uint8)
    moved = augment(bright, Augment(shift=3, rotation=30.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved, bright.float())


def test_rotation_turns_each_image_rigidly_by_an_angle_within_the_limit():
    image = torch.zeros(1, 1, 31, 21, dtype=torch.uint8)  # not square: a rotation must not shear it
    image[0, 0, 8:23, 9:12] = 255
    turned = augment(image.expand(40, -1, -1, -1), Augment(rotation=40.0), torch.Generator().manual_seed(0))
    draws = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))[0]
    for angle, ours in zip((2 * draws - 1) * 40, turned[:, 0], strict=True):
        expected = ndimage.rotate(image[0, 0].numpy().astype(float), angle.item(), reshape=False, order=1, mode="nearest")
        assert (ours - torch.from_numpy(expected)).abs().max() < 1.0
    assert (turned - image.float()).abs().amax((1, 2, 3)).gt(20).sum() > 30


def test_the_generator_alone_decides():
    config = Augment(shift=2, rotation=10.0)
    first, again, other = (augment(square(), config, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_colour_images_keep_their_channels_together():
    images = torch.randint(0, 256, (5, 3, 9, 9), dtype=torch.uint8)
    images[:, 1] = images[:, 0]
    moved = augment(images, Augment(shift=2, rotation=20.0), torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, 0], moved[:, 1])
