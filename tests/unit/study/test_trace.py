import hashlib
import json
from io import StringIO

import pytest
from rich.console import Console

from pipeline.config import parse, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.lineage import digest
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier
from study.lineage.names import TraceError, render, trace

IDS = {"1": "1" * 32, "2": "2ab" + "0" * 29, "1.s1": "2ac" + "0" * 29}
PARENT = "d" * 32


@pytest.fixture
def project(story, tiny_data, tmp_path):
    """A study of three trials, the second the winner, confirmed on two seeds, recorded, reported, and promoted as it was."""
    told = story({"study": {"finalists": {"top": 1, "seeds": 2}}})
    for number in range(3):
        told.trial(number, 0.9 + number / 100)
    config = told.history.runs["1"].config.tree
    for index in range(2):
        final = {"phase": "final", "trial": 1, "config": config | {"train": config["train"] | {"seed": 70 + index}}}
        asked = next(event for event in told.events if event.get("run") == "1")
        told.record(**asked | final | {"kind": "asked", "run": f"1.s{index}", "seed": 70 + index, "replicate": index})
        told.end(f"1.s{index}", 0.91)
    told.record("winner", trial=1, group=told.history.runs["1"].group, finalists=[], summary="")
    folder = told.save(tmp_path / "studies")
    ids = {"tracking_uri": "http://host:5000", "experiment_id": "3", "parent": PARENT, "runs": IDS}
    (folder / "mlflow.json").write_text(json.dumps(ids))
    network = build(parse({}).model, tiny_data.info.shape, 3, seed=0)
    Classifier(Card.of(parse({}).model, tiny_data.info), network).save(folder / "runs" / "1.s1")
    report = tmp_path / "reports/studies/tale"
    report.mkdir(parents=True)
    (report / "index.html").touch()
    (report / "leaderboard.csv").write_text("rank,trials,accuracy\n1,2,0.92\n2,1 7,0.91\n3,0,0.9\n")
    data = tiny_data.info
    DatasetInfo(**{**vars(data), "fingerprint": told.spec.fingerprint}).write(tmp_path / "data/search")
    params = to_tree(told.spec.params) | config
    params["train"] = params["train"] | {"seed": 5, "threads": 3}
    run = {
        "name": "digits conv",
        "params": params,
        "config_hash": "abc",
        "data_fingerprint": told.spec.fingerprint,
        "git_commit": None,
        "git_dirty": False,
        "seed": 5,
        "started": "today",
        "state": "finished",
        "tracking_uri": "sqlite:////x/mlflow.db",
        "run_id": "c" * 32,
        "experiment_id": "1",
    }
    (tmp_path / "models/current").mkdir(parents=True)
    (tmp_path / "models/current/run.json").write_text(json.dumps(run))
    (tmp_path / "models/current/weights.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("tale/0", "tale/0"),
        ("tale/1.s1", "tale/1.s1"),
        ("studies/tale/runs/1.s1/", "tale/1.s1"),
        ("tale#1", "tale/2"),
        ("tale#2", "tale/1"),
        ("reports/studies/tale/index.html#2", "tale/2"),
        ("file:///somewhere/reports/studies/tale/index.html#0", "tale/0"),
        ("1" * 32, "tale/1"),
        ("111111", "tale/1"),
        ("2AB000", "tale/2"),
        (PARENT, "tale/1"),
        ("tale", "tale/1"),
        ("current", "models/current (digits conv)"),
        ("reports/index.html#results", "models/current (digits conv)"),
        ("cccccc", "models/current (digits conv)"),
    ],
)
def test_everything_that_names_a_result_leads_to_it(project, text, title):
    assert trace(text, project).title == title


def test_the_chain_goes_from_the_report_row_to_the_models_bytes(project):
    found = trace("tale/1.s1", project)
    steps = {step.name: step for step in found.steps}
    assert list(steps) == [
        "report row",
        "MLflow run",
        "run",
        "trial",
        "study",
        "configuration",
        "seed",
        "commit",
        "data",
        "model",
    ]
    assert (steps["report row"].value, steps["report row"].note) == (
        "reports/studies/tale/index.html#1",
        "row 2 of 3 of the leader board",
    )
    assert steps["MLflow run"].value == IDS["1.s1"]
    assert steps["MLflow run"].link == f"http://host:5000/#/experiments/3/runs/{IDS['1.s1']}?workflowType=machine_learning"
    assert (steps["run"].value, steps["run"].note) == (
        "studies/tale/runs/1.s1",
        "models/current has the same configuration and data",
    )
    assert (steps["trial"].value, steps["trial"].note) == ("1.s1, COMPLETE", "seed 1 of finalist 1; the winner")
    assert (steps["study"].value, PARENT in steps["study"].note, PARENT in steps["study"].link) == ("tale", True, True)
    assert steps["seed"].value == "71"
    assert (steps["commit"].value, steps["commit"].note) == ("c" * 40, "with changes that were not committed")
    assert (steps["data"].value, steps["data"].note) == ("f" * 32, "digits; data/search holds these data now")
    weights = (project / "studies/tale/runs/1.s1/weights.safetensors").read_bytes()
    assert steps["model"].value == f"sha256 {hashlib.sha256(weights).hexdigest()}"


def test_each_link_leads_back_to_the_same_chain(project):
    found = trace("tale/1", project)
    for link in ("report row", "MLflow run", "run"):
        assert trace(found.step(link).value, project) == found


def test_the_configuration_hash_is_the_one_that_a_training_of_the_pipeline_would_have(project, story):
    told = story()
    tree = to_tree(told.spec.params)
    tree["train"] |= {"lr": 1e-4, "seed": 0}
    assert trace("tale/0", project).step("configuration").value == digest(
        {name: tree[name] for name in ("data", "model", "train")}
    )


def test_the_current_model_is_traced_to_the_trial_that_it_repeats(project):
    found = trace("current", project)
    assert found.step("trial").value == "tale/1"
    assert found.step("study").value == "tale"
    assert found.step("model").value == f"sha256 {hashlib.sha256(b'weights').hexdigest()}"
    assert found.step("commit").note == "not in a git repository"
    assert found.step("MLflow run").link.startswith("http://127.0.0.1:5000/#/experiments/1/runs/cccc")
    path = project / "models/current/run.json"
    path.write_text(path.read_text().replace("f" * 32, "e" * 32))
    assert trace("current", project).step("trial").note == "no trial here has its configuration and data"
    assert trace("tale/1", project).step("run").note == ""


def test_what_is_gone_or_not_yet_there_is_said(project):
    found = trace("tale/0", project)
    assert (found.step("MLflow run").value, found.step("model").note) == (
        "–",
        "there is no studies/tale/runs/0/weights.safetensors",
    )
    (project / "reports/studies/tale/index.html").unlink()
    assert trace("tale/0", project).step("report row").note == "no report yet; `study report tale` writes it"
    path = project / "data/search/dataset.json"
    path.write_text(path.read_text().replace("f" * 32, "e" * 32))
    assert trace("tale/0", project).step("data").note == f"digits; data/search holds other data now, {'e' * 32}"
    path.unlink()
    assert trace("tale/0", project).step("data").note == "digits; nothing is prepared in data/search"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tale/9", "tale has no run 9; it has tale/0 to tale/2 and finals tale/1.s0 to 1.s1"),
        ("tale#4", "the leader board of tale has rows 1 to 3, got 4"),
        ("tail/1", "there is no study tail here; studies: tale"),
        ("abcdef0", "nothing here is named 'abcdef0'; give an MLflow run id .*, or current; studies: tale"),
        ("12345", "nothing here is named '12345'"),
        ("what is this?", r"nothing here is named 'what is this\?'"),
    ],
)
def test_what_names_nothing_is_one_line_that_says_what_is_possible(project, text, message):
    with pytest.raises(TraceError, match=message) as error:
        trace(text, project)
    assert "\n" not in str(error.value)


def test_a_beginning_that_several_runs_share_names_them(project):
    path = project / "studies/tale/mlflow.json"
    path.write_text(path.read_text().replace("2ab000", "2abcde").replace("2ac000", "2abcdf"))
    with pytest.raises(TraceError, match=r"nothing here is named '2abcd'"):
        trace("2abcd", project)
    path.write_text(path.read_text().replace("2abcdf", "2abcde1"))
    with pytest.raises(TraceError, match=r"2 runs begin with 2abcde; .*\(tale/2\), .*\(tale/1.s1\)"):
        trace("2abcde", project)


def test_an_empty_project_says_so(tmp_path):
    with pytest.raises(TraceError, match="studies: none yet"):
        trace("x/1", tmp_path)
    with pytest.raises(TraceError, match="there is no model in models/current; train one with `dvc repro`"):
        trace("current", tmp_path)


def test_in_a_narrow_terminal_digests_and_addresses_stay_whole(project):
    console = Console(width=40, file=StringIO(), highlight=False)
    found = trace("tale/1.s1", project)
    console.print(render(found), soft_wrap=True)
    lines = console.file.getvalue().split("\n")
    assert lines[0] == "tale/1.s1"
    assert f"model          {found.step('model').value}" in lines
    assert f"{'':<15}{found.step('MLflow run').link}" in lines
    assert [line.split("  ")[0] for line in lines[1:] if line[:1].strip()] == [step.name for step in found.steps]
