"""Input files: defaults, every kind of error as one exact line, YAML, schema, reference page."""

import copy
import json
from pathlib import Path

import pytest

from dcharge.config import json_schema, load_config, markdown, normalize, normalize_model, tree
from dcharge.config.deep_charge import ACTIVATIONS
from dcharge.config.model import FAMILIES
from dcharge.config.reference import EXAMPLE
from dcharge.errors import InputError

ROOT = Path(__file__).parent.parent
KNOWN = ", ".join(FAMILIES)
MINIMAL = {
    "model": {"type": "deep_charge", "type_map": ["Si"]},
    "training": {"numb_steps": 20000, "training_data": {"systems": ["train"]}},
}


def changed(path, value):
    """MINIMAL with one value put at a path."""
    config = copy.deepcopy(MINIMAL)
    *sections, name = path.split("/")
    at = config
    for section in sections:
        at = at.setdefault(section, {})
    at[name] = value
    return config


def error(given) -> str:
    with pytest.raises(InputError) as e:
        normalize(given)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_defaults():
    config = normalize(MINIMAL)
    assert config["model"]["descriptor"] == {
        "type": "se_e2_a",
        "rcut": 6.5,
        "rcut_smth": 0.0,
        "neuron": [20, 40, 80],
        "axis_neuron": 16,
        "n_radial": 20,
        "l_max": 1,
        "gram": "joint",
        "soft": 0.5,
        "resnet_dt": False,
        "env_protection": 0.0,
        "set_davg_zero": True,
        "activation_function": "tanh",
    }
    assert config["model"]["baseline"] == {"type": "additive", "ridge": 1e-4}
    assert config["optimizer"]["type"] == "adam"
    assert config["learning_rate"] == {
        "type": "exp",
        "start_lr": 1e-3,
        "stop_lr": 1e-6,
        "decay_steps": 5000,
        "warmup_steps": 0,
    }
    assert config["loss"] == {"type": "mae", "weights": "none"}
    assert config["training"]["sampler"]["type"] == "stratified"
    assert config["training"]["training_data"]["systems"] == [
        {"path": "train", "pbc": None, "field": None, "frames": None}
    ]


@pytest.mark.parametrize(
    ("descriptor", "axis"),
    [
        ({}, 16),
        ({"neuron": [4, 8]}, 8),
        ({"l_max": 0, "gram": "per_l"}, [16]),
        ({"l_max": 3, "gram": "per_l"}, [16, 16, 8, 4]),
        ({"l_max": 2, "gram": "per_l", "neuron": [5, 10]}, [10, 10, 8]),
        ({"l_max": 3, "gram": "per_l", "axis_neuron": None}, [16, 16, 8, 4]),
        ({"l_max": 3, "gram": "per_l", "axis_neuron": 12}, 12),
    ],
)
def test_axis_neuron_follows_gram_and_l_max(descriptor, axis):
    config = normalize(changed("model/descriptor", descriptor))
    assert config["model"]["descriptor"]["axis_neuron"] == axis
    assert normalize(config) == config


def test_normalised_input_is_a_fixed_point_and_input_is_untouched():
    given = copy.deepcopy(MINIMAL)
    config = normalize(given)
    assert given == MINIMAL
    assert normalize(config) == config
    config["model"]["descriptor"]["neuron"].append(1)
    assert normalize(MINIMAL)["model"]["descriptor"]["neuron"] == [20, 40, 80]


def test_dargs_alone_reads_a_complete_input_the_same():
    config = normalize(MINIMAL)
    assert tree().normalize_value(config, trim_pattern="_*") == config


def test_comments_aliases_and_integral_numbers():
    given = changed("training/_why", {"any": "thing"})
    given["_comment"] = "silicon"
    given["training"]["stop_batch"] = 3e4
    del given["training"]["numb_steps"]
    given["model"]["descriptor"] = {"type": "se_a", "n_axis_neuron": 8, "rcut": 6}
    config = normalize(given)
    assert config["training"]["numb_steps"] == 30000 and isinstance(config["training"]["numb_steps"], int)
    assert config["model"]["descriptor"]["type"] == "se_e2_a"
    assert config["model"]["descriptor"]["axis_neuron"] == 8
    assert isinstance(config["model"]["descriptor"]["rcut"], float)
    assert "_" not in "".join(k[0] for k in [*config, *config["training"]])


def test_paper_to_the_letter():
    model = normalize_model(
        {
            "type": "deep_charge",
            "type_map": ["O", "H"],
            "baseline": {"type": "none"},
            "standardize": False,
            "vacuum": "paper",
            "embedding": "exact",
            "descriptor": {"soft": 0},
        }
    )
    assert model["descriptor"]["soft"] == 0.0 and model["baseline"] == {"type": "none"}


def test_systems_as_string_list_or_mapping():
    def read(value):
        return normalize(changed("training/training_data/systems", value))["training"]["training_data"]["systems"]

    assert read("a") == read(["a"]) == read([{"path": "a"}]) == read({"path": "a"})
    assert read([{"path": "a", "pbc": [1, 1, 0], "field": [0, 0, 0]}]) == [
        {"path": "a", "pbc": [1, 1, 0], "field": [0.0, 0.0, 0.0], "frames": None}
    ]


@pytest.mark.parametrize(("steps", "lowered"), [(5001, 5000), (5000, 100), (900, 10)])
def test_decay_steps_are_lowered_as_in_deepmd(steps, lowered):
    config = normalize(changed("training/numb_steps", steps))
    assert config["learning_rate"]["decay_steps"] == lowered


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # unknown keys
        ("model/descriptor/rcut_smoth", 0.5, "unknown key; did you mean 'rcut_smth'?"),
        ("trainin", {}, "unknown key; did you mean 'training'?"),
        ("model/zzz", 1, "unknown key"),
        ("model/batch_size", 1, "unknown key; it belongs in training/training_data"),
        ("model/numb_steps", 1, "unknown key; it belongs in training"),
        ("model/descriptor/sel", [80], "unknown key; neighbours need no upper limit here; remove it"),
        ("learning_rate/step_size", 10, "unknown key for type 'exp'; it belongs to 'step'"),
        ("training/stop_batch", 5, "'stop_batch' is another name of 'numb_steps', and both are given"),
        # types
        ("model/descriptor/rcut", "six", "a positive number expected, the string 'six' given"),
        ("model/descriptor/rcut", True, "a positive number expected, true given"),
        ("model/descriptor/n_radial", 3.5, "an integer from 2 to 128 expected, 3.5 given"),
        ("model/descriptor/neuron", 20, "a list of one or more positive integers expected, 20 given"),
        ("model/descriptor/neuron/1", None, None),
        ("model/descriptor/rcut", float("inf"), "a positive number expected, inf given"),
        ("training/numb_steps", 10**400, "a positive integer expected, an integer beyond 64 bits given"),
        ("model/standardize", "yes", "true or false expected, the string 'yes' given"),
        ("model/standardize", 1, "true or false expected, 1 given"),
        ("model/type_map", "Si", "a list of one or more chemical symbols expected, the string 'Si' given"),
        ("model/descriptor", [], "a mapping of keys expected, the list [] given"),
        ("training", None, "a mapping of keys expected, null given"),
        # choices
        ("model/type", "deep_chrage", f"one of {KNOWN} expected, the string 'deep_chrage' given; "
         "did you mean 'deep_charge'?"),
        ("model/type", 3, f"one of {KNOWN} expected, 3 given"),
        ("model/precision", "float23", "one of float32, float64 expected, the string 'float23' given; "
         "did you mean 'float32'?"),
        ("learning_rate/type", "stairs", "one of exp, cosine, plateau, step expected, the string 'stairs' given"),
        # ranges
        ("training/numb_steps", 0, "a positive integer expected, 0 given"),
        ("learning_rate/start_lr", -1e-3, "a positive number expected, -0.001 given"),
        ("training/ema", 1, "a number from 0 to below 1 expected, 1 given"),
        ("model/descriptor/neuron", [], "a list of one or more positive integers expected, the list [] given"),
        ("training/sampler/shells", [1.0, 0.5], "a list of one or more positive, increasing numbers expected, "
         "the list [1.0, 0.5] given"),
        ("training/training_data/systems", [], "a list of one or more systems expected, the list [] given"),
        # relations
        ("model/descriptor/rcut_smth", 7, "must be below rcut (6.5), 7 given"),
        ("model/descriptor/soft", 0, "must be positive with embedding 'interpolated'; 0 needs embedding 'exact'"),
        ("model/descriptor/axis_neuron", 81, "at most the last width of neuron (80) expected, 81 given"),
        ("model/descriptor/axis_neuron", [16, 8], "a list needs gram 'per_l'; with 'joint' an integer expected"),
        ("learning_rate/stop_lr", 0.1, "at most start_lr (0.001) expected, 0.1 given"),
        ("learning_rate/warmup_steps", 20000, "fewer than training/numb_steps (20000) expected, 20000 given"),
    ],
)  # fmt: skip
def test_one_line_with_path(path, value, message):
    if message is None:
        path, given = "model/descriptor/neuron/1", changed("model/descriptor/neuron", [20, "a"])
        message = "an integer expected, the string 'a' given"
    else:
        given = changed(path, value)
    assert error(given) == f"input.json: {path}: {message}"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"embedding": "exact"}, "model/standardize: must be false with embedding 'exact'"),
        ({"descriptor": {"env_protection": 0.01}}, "model/descriptor/env_protection: needs embedding 'exact' and "
         "soft 0; otherwise 'soft' protects 1/r"),
        ({"descriptor": {"set_davg_zero": False}}, "model/descriptor/set_davg_zero: false needs embedding 'exact'; "
         "'interpolated' given"),
        ({"target": "response", "baseline": {"type": "none"}}, "model/target: 'response' needs a family that sees the "
         "electric field; Deep Charge learns 'density' only"),
        ({"target": "response", "baseline": {}}, "model/baseline/type: target 'response' needs baseline 'none', "
         "since the response vanishes without field"),
        ({"type_map": ["Si", "Sii"]}, "model/type_map/1: 'Sii' is not a chemical symbol; did you mean 'Si'?"),
        ({"type_map": ["X"]}, "model/type_map/0: 'X' is the pseudo-atom of grid points, not a species; remove it"),
        ({"type_map": ["Si", "O", "Si"]}, "model/type_map/2: 'Si' is listed twice"),
        ({"type_map": [14]}, "model/type_map/0: a string expected, 14 given"),
        ({"descriptor": {"l_max": 2}}, "model/descriptor/gram: joint needs l_max <= 1 (2 given); use 'per_l'"),
        ({"descriptor": {"gram": "per_l", "axis_neuron": [16]}}, "model/descriptor/axis_neuron: 2 integers expected, "
         "one for each l from 0 to l_max; 1 given"),
    ],
)  # fmt: skip
def test_model_relations(model, message):
    assert error({**MINIMAL, "model": {**MINIMAL["model"], **model}}) == f"input.json: {message}"


def test_missing_keys():
    assert error({"training": MINIMAL["training"]}) == "input.json: model: required key is missing (a mapping)"
    assert error({"model": MINIMAL["model"]}) == "input.json: training: required key is missing (a mapping)"
    assert error({**MINIMAL, "model": {"type": "deep_charge"}}) == (
        "input.json: model/type_map: required key is missing (a list of one or more chemical symbols)"
    )
    assert error({**MINIMAL, "model": {"type_map": ["Si"]}}) == (
        f"input.json: model/type: required key is missing (one of {KNOWN})"
    )


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ([3], "systems/0: a string or a mapping with 'path' expected, 3 given"),
        ([""], "systems/0/path: a string that is not empty expected, the string '' given"),
        ([{"pbc": [1, 1, 1]}], "systems/0/path: required key is missing (a string that is not empty)"),
        ([{"path": "a", "pbc": [1, 1]}], "systems/0/pbc: a list of three, each true or false (or 1 or 0) expected, "
         "the list [1, 1] given"),
        (["a", {"path": "b", "feild": [0, 0, 1]}], "systems/1/feild: unknown key; did you mean 'field'?"),
        ({"path": "b", "field": [0, 0]}, "systems/field: a list of three numbers expected, the list [0.0, 0.0] given"),
    ],
)  # fmt: skip
def test_systems_errors(systems, message):
    given = changed("training/training_data/systems", systems)
    assert error(given) == f"input.json: training/training_data/{message}"


def test_validation_systems_or_fraction():
    given = changed("training/validation_data", {"systems": ["a"], "fraction": 0.1})
    assert error(given) == "input.json: training/validation_data/fraction: give systems or fraction, not both"


def test_plateau_needs_validation():
    given = changed("learning_rate", {"type": "plateau"})
    assert error(given) == (
        "input.json: learning_rate/type: plateau follows the validation error: give training/validation_data"
    )
    given["training"]["validation_data"] = {"fraction": 0.1}
    assert normalize(given)["learning_rate"]["type"] == "plateau"


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{\n  "model": ,\n}', ": line 2 column 12: not valid JSON: Expecting value"),
        ("a.json", "", ": line 1 column 1: not valid JSON: Expecting value"),
        ("a.json", "[1]", ": a mapping of keys expected, the list [1] given"),
        ("a.json", '{"model": 1, "model": 2}', ": key 'model' is given twice in one mapping"),
        ("a.json", '{"model": NaN}', ": NaN is not a number"),
        ("a.json", b"\xff\xfe{}", ": not a text file in UTF-8 (byte 0)"),
        ("a.yaml", "", ": a mapping of keys expected, null given"),
        ("a.yaml", "a: 1\nb: [1,\n", ": line 3 column 1: not valid YAML: expected the node content, but found "
         "'<stream end>'"),
        ("a.yaml", "model:\n  type: x\n  type: y\n", ": line 3: key 'type' is given twice in one mapping"),
        ("a.txt", "{}", ": an input file named *.json, *.yaml or *.yml expected"),
    ],
)  # fmt: skip
def test_files_that_do_not_read(tmp_path, name, text, message):
    path = write(tmp_path, name, text)
    with pytest.raises(InputError) as e:
        load_config(path)
    assert str(e.value) == f"{path}{message}"


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "input.json", "{}")
    with pytest.raises(InputError) as e:
        load_config(tmp_path / "inptu.json")
    assert str(e.value) == f"{tmp_path / 'inptu.json'}: no such file; did you mean 'input.json'?"


def test_yaml_reads_like_json(tmp_path):
    text = """
        # nobelium and 1e-3 are traps of YAML 1.1
        model: {type: deep_charge, type_map: [No, Si, Y, N], baseline: {type: none}}
        learning_rate: &lr {type: exp, start_lr: 1e-3, stop_lr: 1.e-8}
        training:
          numb_steps: 1e5
          _note: one
          _note: two
          training_data: {systems: [train]}
    """
    config = load_config(write(tmp_path, "input.yaml", text))
    assert config["model"]["type_map"] == ["No", "Si", "Y", "N"]
    assert config["learning_rate"]["start_lr"] == 1e-3 and config["learning_rate"]["stop_lr"] == 1e-8
    assert config["training"]["numb_steps"] == 100000
    as_json = write(tmp_path, "out.json", json.dumps(config))
    assert load_config(as_json) == config


def test_yaml_error_carries_the_file_name(tmp_path):
    path = write(tmp_path, "input.yml", "model: {type: deep_charge}\n")
    with pytest.raises(InputError) as e:
        load_config(path)
    assert str(e.value).startswith(f"{path}: model/type_map: required key is missing")


def test_schema_is_valid_and_agrees():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    validator = jsonschema.Draft7Validator
    validator.check_schema(schema)
    check = validator(schema)
    for good in (MINIMAL, normalize(MINIMAL), changed("model/descriptor/_note", 1), changed("optimizer/type", "AdamW")):
        assert check.is_valid(good)
    for path, value in [
        ("model/descriptor/rcut_smoth", 1),
        ("model/precision", "half"),
        ("model/type", "dep"),
        ("learning_rate/step_size", 10),
        ("training/numb_steps", 0),
        ("training/training_data/systems", [{"pbc": [1, 1, 1]}]),
        ("training/training_data/systems", []),
        ("model/descriptor/neuron", [1, "a"]),
    ]:
        assert not check.is_valid(changed(path, value)), path
    assert not check.is_valid({"model": MINIMAL["model"]})


def test_schema_is_plain_json_with_a_dialect():
    schema = json_schema()
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert json.loads(json.dumps(schema)) == schema
    assert schema["properties"]["training"]["properties"]["numb_steps"]["minimum"] == 1


def test_reference_page_is_up_to_date():
    assert (ROOT / "docs/input.md").read_text() == markdown(), "run: dcharge schema --markdown > docs/input.md"


def test_example_of_the_reference_page_is_valid():
    assert normalize(json.loads(EXAMPLE))["model"]["type_map"] == ["Si"]


def test_words_of_the_input_are_those_of_the_code():
    pytest.importorskip("torch")
    from dcharge import nn, sampling

    assert set(ACTIVATIONS.choices) == set(nn.ACTIVATIONS)
    samplers = tree()["training/sampler"].sub_variants["type"].choice_dict
    assert set(samplers) == {*sampling.SAMPLERS, "fresh"}  # which keeps no points (pool.py)
    for name in sampling.SAMPLERS:
        config = normalize(changed("training/sampler", {"type": name}))["training"]["sampler"]
        points = {"independent": 100, "inequivalent": 1000}.get(name, 20000)
        assert sampling.make_sampler(config).points_per_frame == points
