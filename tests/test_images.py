"""What sampling returns saves and shows itself, and everything takes it back; one image of any kind is read."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import noisekiln as nk
from noisekiln.backbones.unet import Unet
from noisekiln.codecs.pixels import Pixels
from noisekiln.denoisers import Denoiser
from noisekiln.images import Images, single_image
from noisekiln.session.masks import MaskOptions

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = Unet(3, 0, widths=(32,), blocks=(1,), patch=1, condition=32)
    return nk.Diffusion(Denoiser(net), Pixels((0.5,) * 3, (0.25,) * 3), (8, 8)).eval()


def test_images_are_the_tensor_that_they_were():
    images = Images.of(PIXELS)
    assert isinstance(images, torch.Tensor)
    assert images.shape == (5, 8, 8, 3)
    assert torch.equal(images, PIXELS)
    assert bool((images == PIXELS).all())
    assert np.array_equal(np.asarray(images), PIXELS.numpy())
    assert np.asarray(images, dtype=np.float32).dtype == np.float32
    assert torch.as_tensor(images).shape == images.shape
    assert len(images) == 5
    for computed in (images.float(), images.clone(), images[..., 0], images / 255, torch.cat([images, images])):
        assert type(computed) is torch.Tensor
    assert images.reshape(5, -1).numpy().shape == (5, 192)


def test_some_of_the_images_are_images_again():
    images = Images.of(PIXELS)
    for some in (images[0], images[1:3], images[[0, 2]], images[torch.tensor([True, False, True, False, False])]):
        assert isinstance(some, Images)
    assert [type(image) for image in images] == [Images] * 5
    assert type(images[0][0]) is torch.Tensor
    assert type(images[0, 1]) is torch.Tensor
    assert repr(images) == "Images(5 of 8x8, colour)"
    assert repr(images[0]) == "Images(8x8, colour)"
    for copied in (copy.deepcopy(images), pickle.loads(pickle.dumps(images))):
        assert torch.equal(copied, images)
        assert isinstance(copied, Images)


def test_images_are_saved_by_the_ending_of_the_name(tmp_path):
    images = Images.of(PIXELS)
    files = images.save(tmp_path / "folder")
    assert [file.name for file in files] == [f"{number:05d}.png" for number in range(5)]
    assert np.array_equal(np.asarray(Image.open(files[3])), PIXELS[3].numpy())
    assert Image.open(*images.save(tmp_path / "grid.png")).size == (28, 19)
    assert np.array_equal(np.asarray(Image.open(*images[0].save(tmp_path / "one.png"))), PIXELS[0].numpy())
    assert Image.open(*images[:1].save(tmp_path / "alone.png")).size == (8, 8)
    assert Image.open(*images.save(tmp_path / "all.gif")).n_frames == 5
    assert Image.open(*Images.of(PIXELS[..., :1]).save(tmp_path / "grey.jpg")).mode == "L"
    with pytest.warns(UserWarning, match=r"5 files in .* replaced"):
        images.save(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"ends in '.xyz', which is no format of images"):
        images.save(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="holds no images"):
        Images.of(torch.zeros(3)).save(tmp_path / "b.png")
    assert [image.size for image in images.pil()] == [(8, 8)] * 5


def test_a_notebook_shows_them():
    shown = Images.of(PIXELS)._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert Images.of(PIXELS[:1])._repr_png_() != shown
    many = Images.of(PIXELS.repeat(40, 1, 1, 1))
    assert len(many._repr_png_()) > 0


def test_models_show_themselves_in_few_words(model):
    shown = model._repr_html_()
    assert "8x8" in shown
    assert "parameters" in shown
    assert len(shown) < 2000


AS = {
    "images": PIXELS[0],
    "of one": Images.of(PIXELS[:1]),
    "array": PIXELS[0].numpy(),
    "floats": PIXELS[0].numpy() / 255,
    "channels first": PIXELS[0].permute(2, 0, 1).float() / 255,
    "both signs": (PIXELS[0].float() / 127.5 - 1)[None],
    "bfloat16": (PIXELS[0].float() / 255).bfloat16(),
    "PIL": Image.fromarray(PIXELS[0].numpy()),
}


@pytest.mark.parametrize("kind", AS)
def test_an_image_may_be_of_any_kind(kind):
    assert np.abs(single_image(AS[kind]).astype(int) - PIXELS[0].numpy()).max() <= (kind == "bfloat16")


def test_an_image_may_be_a_file_grey_or_transparent(tmp_path):
    Image.fromarray(PIXELS[0].numpy()).save(tmp_path / "a.png")
    assert np.array_equal(single_image(tmp_path / "a.png"), PIXELS[0].numpy())
    assert np.array_equal(single_image(str(tmp_path / "a.png")), PIXELS[0].numpy())
    assert single_image(np.eye(6, dtype=bool)).tolist() == (255 * np.eye(6, dtype=int))[..., None].tolist()
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert bool((single_image(clear) == 255).all())


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Images.of(PIXELS), r"5 images were given, and one is needed. Give one of them, such as `images\[0\]`"),
        (PIXELS[0].numpy().astype(float), r"float64 from 0 to 2\d\d with the shape \(8, 8, 3\) is not an image"),
        (np.full((8, 8, 3), np.nan), "is not an image"),
        (None, "A NoneType is not an image"),
        ([[1], [1, 2]], "A list is not an image"),
        (3, "is not an image"),
        ("gone.png", "gone.png"),
    ],
)
def test_what_is_no_image_is_refused(image, says):
    with pytest.raises(ValueError, match=says):
        single_image(image)


def test_every_use_takes_what_sampling_returns(model):
    images = model.sample(2, seed=1, steps=1)
    assert isinstance(images, Images)
    one, options = images[0], {"steps": 1, "count": np.int64(1), "seed": torch.tensor(3)}
    as_array = {"array": one.numpy(), **options}
    mask = Image.fromarray(255 * np.eye(8, dtype=np.uint8))
    for use in (
        lambda image: nk.edit(model, image, strength=np.float32(0.5), **options),
        lambda image: nk.variations(model, image, strength=torch.tensor(0.5), **options),
        lambda image: nk.inpaint(model, image, mask, method="replacement", **options),
        lambda image: nk.outpaint(model, image, left=np.int64(1), method="replacement", **options),
        lambda image: nk.upscale(model, image, torch.tensor(2), method="replacement", **options),
        lambda image: nk.restore(model, image, "blur(sigma=1)", method="replacement", **options),
        lambda image: nk.style(model, image, steps=1),
        lambda image: nk.interpolate(model, [np.int64(1), image], frames=np.int64(1), steps=1),
    ):
        made = use(one)
        assert isinstance(made, Images)
        assert torch.equal(made, use(as_array["array"]))
    assert isinstance(next(nk.generate(model, 1, steps=1)).images(), Images)


def test_numbers_and_arrays_of_numpy_and_torch_are_numbers_and_lists(model):
    plain = model.sample(2, seeds=[1, 2], steps=2)
    for count, seeds, steps in (
        (np.int64(2), np.array([1, 2]), np.int32(2)),
        (torch.tensor(2), torch.tensor([1, 2]), torch.tensor(2)),
    ):
        assert torch.equal(model.sample(count, seeds=seeds, steps=steps, batch_size=np.int64(1)), plain)
    assert model.sample(1, size=torch.tensor([8, 10]), steps=1).shape == (1, 8, 10, 3)
    assert torch.equal(model.sample(np.array([None, None]), seed=np.uint8(1), steps=2), plain)
    with pytest.raises(ValueError, match="`seeds=3` is no list of seeds"):
        model.sample(2, seeds=3)
    with pytest.raises(ValueError, match="`size='8'` is neither a side"):
        model.sample(1, size="8")


def test_a_misspelt_option_has_the_nearest_name(model):
    with pytest.raises(ValueError, match=r"There is no option called 'stepz'\. Did you mean 'steps'"):
        nk.edit(model, PIXELS[0], stepz=3)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (np.eye(8) * 0.004, r"nowhere above one half \(at most 0.004\)"),
        (np.eye(8, dtype=np.uint8) * 3, r"nowhere above one half"),
    ],
)
def test_a_mask_by_which_nothing_would_be_generated_is_refused(model, missing, says):
    with pytest.raises(ValueError, match=says):
        nk.inpaint(model, PIXELS[0], missing, count=1)


@pytest.mark.parametrize("values", [(0, 1), (0, 255)])
def test_a_mask_file_of_zeros_and_ones_marks_its_ones(tmp_path, values):
    missing = np.zeros((8, 8), np.uint8)
    missing[2:4] = 1
    Image.fromarray(PIXELS[0].numpy()).save(tmp_path / "image.png")
    Image.fromarray(np.array(values, np.uint8)[missing]).save(tmp_path / "mask.png")
    notes = []
    marked = MaskOptions(mask=tmp_path / "mask.png").missing(
        tmp_path / "image.png", PIXELS[0].numpy(), (8, 8), notes.append
    )
    assert np.array_equal(marked.numpy(), missing)
    assert [("only 0 and 1" in note) for note in notes] == ([True] if values == (0, 1) else [])


def test_a_warning_names_the_line_that_called(tmp_path):
    paths = [tmp_path / "gone.png", Image.fromarray(PIXELS[0].numpy())]
    with pytest.warns(UserWarning, match="gone.png") as caught, pytest.raises(ValueError, match="class"):
        nk.train(paths, cond="class", out=tmp_path / "run")  # refused once the images are read
    skipped = [each for each in caught if "gone.png" in str(each.message)]
    assert len(skipped) == 1
    assert Path(skipped[0].filename) == Path(__file__)


def test_no_images_are_refused_where_something_is_to_be_seen(tmp_path: Path):
    none = Images.of(torch.empty(0, 4, 4, 3, dtype=torch.uint8))
    assert none.pil() == []
    assert none._repr_png_() is None
    for place in ("a", "a.png", "a.gif"):
        with pytest.raises(ValueError, match="There are no images"):
            none.save(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def test_pil_numpy_torch_and_matplotlib_take_images_as_they_are():
    images = Images.of(PIXELS)
    grey = Images.of(PIXELS[..., :1])
    for one in (images[0], images[1:2][0], Images.of(PIXELS.transpose(1, 2))[0]):  # not in order in memory, too
        assert np.array_equal(np.asarray(Image.fromarray(one)), one.numpy())
    assert Image.fromarray(grey[0][..., 0].as_subclass(Images)).mode == "L"
    assert np.shares_memory(np.asarray(images), PIXELS.numpy())
    assert np.array_equal(np.stack(list(images)), PIXELS.numpy())
    assert torch.equal(torch.as_tensor(images), PIXELS)
    figure = pytest.importorskip("matplotlib.figure").Figure()
    shown = figure.subplots().imshow(images[0])
    assert np.array_equal(shown.get_array(), PIXELS[0].numpy())


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        (lambda images: Images.of(None), "A NoneType was given, which is no tensor of images"),
        (lambda images: Images.of([1]), "A list was given"),
        (lambda images: nk.Images([]).save("x"), "holds no images"),
        (lambda images: images.save(None), "A NoneType was given, which is no path"),
        (lambda images: images.grid("a"), "`columns='a'` is not possible"),
        (lambda images: images.grid(0), "`columns=0`: a row of a grid holds one image or more"),
    ],
)
def test_a_slip_with_images_is_answered_in_words(slip, says):
    with pytest.raises(ValueError, match=says):
        slip(Images.of(PIXELS))


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        (lambda m: m.sample(1, steps=1, precision=["fp32"]), "is not a precision of networks"),
        (lambda m: m.sample(1, steps=1, size=-1), "-1x-1"),
        (lambda m: m.sample(1, steps=1, size=10**9), "overlapping tiles"),
        (lambda m: m.sample(1, steps=1, start="x"), "`start`: str was given, and it is x, in the model's units"),
        (lambda m: m.sample(1, steps=1, noise=3), "`noise`: int was given"),
        (lambda m: m.sample(1, steps=1, start=torch.zeros(1, 3, 8, 8).byte()), "`start`: torch.uint8 was given"),
        (lambda m: m.sample(1, steps=1, noise=torch.zeros(1, 3, 4, 4)), r"`noise`: the shape \(1, 3, 4, 4\)"),
        (lambda m: m.sample(2, steps=1, start=torch.zeros(3, 3, 8, 8)), "for 2 images.*Give one row for each"),
        (lambda m: m.sample(1, steps=1, source=3), "`source`: a int was given"),
        (lambda m: m.sample(1, steps=1, wrap_denoiser=3), "`wrap_denoiser`: a int cannot be called"),
        (lambda m: m.sample(1, steps=1, wrap_denoiser=lambda denoise: None), "a NoneType cannot be called"),
        (lambda m: m.generate(1, stepz=3), "no option called 'stepz'. Did you mean 'steps'"),
        (lambda m: nk.generate(m, 1, num_inference_steps=3), "It is `steps` here"),
        (lambda m: m.save(None), "A NoneType was given, which is no path"),
        (lambda m: nk.Diffusion.load(None), "`folder=None` is not possible"),
        (lambda m: nk.load("x", devise="cpu"), "no option called 'devise'. Did you mean 'device'"),
        (lambda m: nk.edit(m, None), "A NoneType is not an image"),
        (lambda m: nk.edit(m, PIXELS[0], strenght=1), "'strenght'. Did you mean 'strength'"),
        (lambda m: nk.edit(m, PIXELS[0], prompt="red"), "It is `condition` here"),
        (lambda m: nk.edit(m, PIXELS[0], sampler=nk.DDIM), r"the class DDIM itself was given. Give .* DDIM\(\)"),
        (lambda m: nk.edit(m, PIXELS[0], sampler=nk.Cosine()), "`sampler`: a Cosine was given"),
        (lambda m: nk.outpaint(m, PIXELS[0], lefft=1), "Did you mean 'left'"),
        (lambda m: nk.interpolate(m, 3), "`keys`: a int is no list of key frames"),
        (lambda m: nk.interpolate(m, [True, 2]), "is not an image"),
        (lambda m: nk.interpolate(m, [1, 2], count=3), "no option called 'count'"),
        (lambda m: nk.style(m, PIXELS[0], count=3), "no option called 'count'"),
        (lambda m: nk.style(m, PIXELS[0], target_model="runs/a"), "This is a str, and this function needs a single"),
        (lambda m: nk.style(m, PIXELS[0], sampler=nk.DDIM(eta=1)), "inverted with ddim"),
    ],
)
def test_a_slip_with_a_model_is_answered_in_words(model, slip, says):
    with pytest.raises(ValueError, match=says):
        slip(model)


def test_a_component_is_an_option_of_every_use(model):
    for sampler, schedule in ((nk.Heun(), nk.Cosine()), ("heun", "cosine")):
        made = nk.edit(model, PIXELS[0], sampler=sampler, schedule=schedule, steps=2, count=1)
        assert torch.equal(made, nk.edit(model, PIXELS[0], sampler="heun", schedule="cosine", steps=2, count=1))
    assert nk.style(model, PIXELS[0], sampler=nk.DDIM(), steps=1).shape == (1, 8, 8, 3)


@pytest.mark.parametrize(("device", "says"), [("gpu", "'gpu' is not available; available: "), (99, "99 is not")])
def test_a_device_that_is_none_is_refused(model, tmp_path, device, says):
    model.save(tmp_path)
    assert nk.load(tmp_path, device="auto").device.type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match=says):
        nk.load(tmp_path, device=device)
    with pytest.raises(ValueError, match=says):
        nk.denoiser(lambda x, t: x, size=8, device=device)
