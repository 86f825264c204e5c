"""Options of the commands, as they are derived from the library; nothing is run."""

import argparse
import inspect
from importlib import import_module
from numbers import Integral, Real

import pytest
from sklearn.utils._param_validation import Interval, StrOptions

from skleiden import MultiLayerTfidfSketcher, MutualKNNLeiden
from skleiden.capture import capture_activations
from skleiden.cli import _options, main
from skleiden.model_selection import layer_profile, resolution_profile

ESTIMATORS = (MultiLayerTfidfSketcher, MutualKNNLeiden)
OF_BOTH = {"random_state", "n_jobs", "verbose"}


def parameters(estimator):
    return dict(inspect.signature(estimator).parameters)


def parser_of(command):
    """A parser with the options of one command."""
    parser = argparse.ArgumentParser()
    import_module(f"skleiden.cli._{command}").add_options(parser)
    return parser


def defaults_of(command):
    return vars(parser_of(command).parse_args(["x.npy", "--out", "x"]))


@pytest.mark.parametrize(
    ("command", "own"), [("cluster", set()), ("profile", {"resolution", "n_clusters"})]
)
def test_options_are_all_parameters_with_their_defaults(command, own):
    found = defaults_of(command)
    left_out = OF_BOTH | own | {"layers", "metric"}
    for estimator in ESTIMATORS:
        for name, parameter in parameters(estimator).items():
            default = parameter.default
            if isinstance(default, type):
                default = default.__name__
            assert name in left_out or found[name] == default
    assert found["n_jobs"] == -1
    assert found["random_state"] == 0
    assert found.keys().isdisjoint({"metric", "verbose"} | own)


def test_options_of_a_profile_are_those_of_the_function():
    found, expected = defaults_of("profile"), parameters(resolution_profile)
    for name in ("n_runs", "n_sketches", "n_permutations", "vary"):
        assert found[name] == expected[name].default
    assert found["resolutions"] == expected["resolutions"].default


def test_a_new_parameter_is_an_option(monkeypatch):
    class Estimator:
        """Do something.

        Parameters
        ----------
        share : float, default=0.5
            Share of ``rows`` in % [1]_, kept. And more.

        kinds : {"b", "a"}, default="a"
            Which kinds, where the sentence goes on until it is longer than what is
            shown of it: "a" does one thing, "b" does another thing.

        steps : int or None, default=None
            Steps:

            - one.
            - two.

        Attributes
        ----------
        steps_ : int
            Not an option.
        """

        _parameter_constraints = {
            "share": [Interval(Real, 0, 1, closed="neither")],
            "kinds": [StrOptions({"b", "a"})],
            "steps": [Interval(Integral, 1, None, closed="left"), None],
        }

        def __init__(self, share=0.5, *, kinds="a", steps=None):
            pass

    monkeypatch.setattr(_options, "_STEPS", {"step": Estimator})
    parser = argparse.ArgumentParser(prog="x")
    _options.add_estimators(parser)
    shown = " ".join(parser.format_help().split())
    assert "--share N share of rows in %, kept --kinds {a,b} which kinds, " in shown
    assert "is shown of it --steps N steps" in shown
    options = parser.parse_args(["--share", "0.2", "--kinds", "b", "--steps", "3"])
    assert (options.share, options.kinds, options.steps) == (0.2, "b", 3)


def test_help_is_one_sentence_for_each_option(capsys):
    with pytest.raises(SystemExit):
        main(["cluster", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "HDF5 files or Zarr folders" in shown
    assert "--resolution N above 0; the larger, the more and smaller the comm" in shown
    assert "--small-clusters {attach,keep,noise} what becomes of the rows of" in shown
    assert "(default: None)" not in shown
    for action in parser_of("cluster")._actions:
        assert action.help
        assert len(action.help) < 140


def test_help_without_docstrings():
    """As Python has none with -OO."""

    class Bare(MutualKNNLeiden):
        __doc__ = ""

    parser = argparse.ArgumentParser()
    _options._add(parser, Bare, "n_neighbors")
    assert "--n-neighbors N" in parser.format_help()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "--n-neighbors 0",
            "--n-neighbors: must be an int in the range [1, inf); got 0",
        ),
        ("--n-neighbors 1.5", "invalid int value: '1.5'"),
        ("--hnsw-m 513", "must be an int in the range [2, 512]; got 513"),
        ("--target-recall 1.01", "must be a float in the range (0.0, 1.0]; got 1.01"),
        ("--target-recall nan", "must be a float in the range (0.0, 1.0]; got nan"),
        ("--zero-tol=-1", "must be a float in the range [0.0, inf); got -1"),
        ("--zero-tol inf", "must be a float in the range [0.0, inf); got inf"),
        ("--n-iterations 0", "[1, 2147483647] or -1; got 0"),
        ("--n-components 8,0", "must be an int in the range [1, inf); got 0"),
        ("--n-components 8,x", "invalid int or list of int value: '8,x'"),
        ("--layer-weights 1,x", "invalid auto or float or list of float value: '1,x'"),
        ("--weights cosine", "--weights: invalid choice: 'cosine'"),
        ("--dtype int32", "--dtype: invalid choice: 'int32'"),
    ],
)
@pytest.mark.parametrize("command", ["cluster", "profile"])
def test_values_out_of_bounds(capsys, command, given, message):
    assert_refused([command, "x.npy", "--out", "x", *given.split()], message, capsys)


@pytest.mark.parametrize(
    ("command", "option", "least", "other"),
    [
        ("cluster", "--n-runs", 1, ""),
        ("cluster", "--n-subsamples", 2, " or 0"),
        ("profile", "--n-runs", 2, ""),
        ("profile", "--n-sketches", 1, ""),
        ("profile", "--n-permutations", 0, ""),
    ],
)
def test_numbers_of_runs_that_cannot_be_meant(capsys, command, option, least, other):
    for value in (10**30, 10_001, -1, "1" if least == 2 else least - 1):
        message = (
            f"{option}: must be an int in the range [{least}, 10000]{other}; got "
            f"{value}. Give such a number: each is a clustering of its own"
        )
        given = [command, "x.npy", "--out", "x", f"{option}={value}"]
        assert_refused(given, message, capsys)


def assert_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_more_jobs_than_processors_are_as_many_as_these(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    given = ["2", "3", "4", str(2**31), "-1"]
    assert [_options._n_jobs(text) for text in given] == [2, 3, 3, 3, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-jobs", "0"], "-1 for all; got 0"),
        (["--ids", ""], "argument --ids: must name a file or folder; got ''"),
        (["--texts", ""], "argument --texts: must name a file or folder; got ''"),
        (["--resolution", "2", "--resol", "2"], "unrecognized arguments: --resol 2"),
    ],
)
def test_what_no_option_can_mean(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["cluster", "x.npy", "--out", "y", *arguments])
    assert message in capsys.readouterr().err


def test_one_weight_of_one_layer():
    options = parser_of("cluster").parse_args(
        ["x.npy", "--out", "y", "--layer-weights", "2"]
    )
    assert options.layer_weights == [2.0]
    assert options.n_components == 64


@pytest.mark.parametrize(
    "arguments",
    [[], ["x.npy"], ["--out", "x"], ["x.npy", "--out", "x", "--n-neighbors", "0"]],
)
def test_bad_options_exit_with_2(arguments, capsys):
    for command in ("cluster", "profile"):
        with pytest.raises(SystemExit) as stop:
            main([command, *arguments])
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("usage: skleiden")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("many", "--resolutions: invalid float or list of float value: 'many'"),
        ("1,", "--resolutions: invalid float or list of float value: '1,'"),
        ("0", "--resolutions: must be a float in the range (0.0, inf); got 0"),
        ("-1,2", "must be a float in the range (0.0, inf); got -1"),
        ("inf", "must be a float in the range (0.0, inf); got inf"),
        ("nan", "must be a float in the range (0.0, inf); got nan"),
        ("-inf", "must be a float in the range (0.0, inf); got -inf"),
        ("1,inf", "must be a float in the range (0.0, inf); got inf"),
        ("1", "must be an int in the range [2, 10000]; got 1. Give such a number"),
        (str(10**9), "must be an int in the range [2, 10000]; got 1000000000. Give"),
    ],
)
def test_bad_resolutions(capsys, given, message):
    arguments = ["profile", "x.npy", "--out", "x", f"--resolutions={given}"]
    assert_refused(arguments, message, capsys)


@pytest.mark.parametrize(
    ("given", "expected"), [("30", 30), ("30.0", 30), ("0.5", [0.5]), ("1,2", [1, 2])]
)
def test_resolutions(given, expected):
    arguments = ["x.npy", "--out", "x", "--resolutions", given]
    assert parser_of("profile").parse_args(arguments).resolutions == expected


def test_a_gpu_may_have_a_number(capsys):
    arguments = ["x.npy", "--out", "x", "--device"]
    assert parser_of("cluster").parse_args([*arguments, "cuda:1"]).device == "cuda:1"
    with pytest.raises(SystemExit):
        parser_of("cluster").parse_args([*arguments, "gpu"])
    message = "--device: must be 'cpu', 'cuda' or the name of one of several GPUs, such"
    assert message in " ".join(capsys.readouterr().err.split())


def test_help_says_nothing_of_none(capsys):
    """Which no option can be: it is left out."""
    for command in ("cluster", "profile", "layers", "capture"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "None" not in capsys.readouterr().out
    for action in parser_of("capture")._actions:
        assert action.help


def test_help_of_all_says_how_to_begin(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "skleiden COMMAND --help describes each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "function", "names"),
    [
        (
            "profile",
            resolution_profile,
            "resolutions n_runs n_sketches vary n_permutations n_jobs random_state",
        ),
        (
            "layers",
            layer_profile,
            "n_rows n_splits n_permutations n_jobs random_state",
        ),
        (
            "capture",
            capture_activations,
            "modules side part decoder_inputs pool max_tokens batch_tokens out",
        ),
    ],
)
def test_functions_get_the_options_of_their_names(command, function, names):
    options = parser_of(command).parse_args(["x", "y", "--out", "z"])
    taken = _options.arguments_of(options, function)
    assert list(taken) == names.split()
    assert {name: getattr(options, name) for name in taken} == taken
