"""The short part of the campaign; `make fuzz` runs the long one, with other seeds if you like."""

import contextlib
import io

import calls
import campaign
import cards
import files
import kills
import manifests
import models
import people
import prompts
import pytest
import results
import tensors


@pytest.fixture
def sound(tmp_path):
    return files.artefacts(tmp_path) | files.pictures(tmp_path)


@pytest.mark.parametrize("kind", ["identity", "basis", "map", "inversion", "portraits", "foreign", *files.PICTURES])
def test_damaged_files_are_refused_or_what_they_should_be(kind, sound, tmp_path):
    file, read = sound[kind]
    assert files.attack(file, read, 60, "7", tmp_path).row()["kinds"] == {}


def test_cards_of_any_content_are_refused_or_what_a_card_may_say(tmp_path):
    assert cards.attack(200, "7", tmp_path).row()["kinds"] == {}


@pytest.mark.parametrize("kind", ["identity", "basis", "map", "inversion", "portraits", *tensors.LAYOUTS])
def test_artefacts_without_a_digest_are_refused_or_can_be_used(kind, tmp_path):
    file, use = tensors.sound(tmp_path)[kind]
    assert tensors.attack(file, use, 40, "7", tmp_path).row()["kinds"] == {}


@pytest.mark.parametrize("suffix", people.KINDS)
def test_tables_of_any_content_are_refused_or_name_people(suffix, tmp_path):
    for read in (people.read_fleet, people.read_evaluated)[: 1 + (suffix == "csv")]:
        assert people.attack(suffix, read, 40, "7", tmp_path).row()["kinds"] == {}


def test_manifests_of_any_content_are_refused_or_go_on(tmp_path):
    assert manifests.attack(60, "7", tmp_path).row()["kinds"] == {}


def test_prompts_of_any_content_are_refused_or_drawn(tmp_path):
    assert prompts.attack(40, "7", tmp_path).row()["kinds"] == {}


def test_calls_of_any_content_are_refused_or_answered(tmp_path):
    assert calls.attack(40, "7", tmp_path).row()["kinds"] == {}


def test_damaged_results_of_a_comparison_are_refused_or_what_is_whole_in_them(tmp_path):
    assert results.attack(300, "7", tmp_path).row()["kinds"] == {}


@pytest.mark.parametrize("name", ["blend", "miniature person", "generate"])
def test_stopped_commands_and_full_disks_leave_no_torn_file(name, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        argv = kills.commands(tmp_path)[name]
    for kind, tally in {
        "kill": lambda place: kills.kill(argv, 2, "7", place),
        "full": lambda place: kills.full(argv, 1, "7", place),
        "together": lambda place: kills.together(argv, 1, "7", place),
    }.items():
        (tmp_path / kind).mkdir()
        assert tally(tmp_path / kind).row()["kinds"] == {}, kind


def test_malformed_models_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert models.attack("7", tmp_path, cases=15).row()["kinds"] == {}


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*args):
        monkeypatch.setattr("sys.argv", ["campaign.py", *map(str, args)])
        assert campaign.main() == 0
        return capsys.readouterr().out

    return run


def test_without_parts_the_campaign_has_all_of_them(run):
    said = run("--expect")
    assert [part for part in campaign.PARTS if f"| {part} |" not in said] == []


def test_a_campaign_continues_with_what_its_rows_lack(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    once = run("files", "--share", 0.001, "--rows", rows)
    assert "damaged identity: 1 of 1, 0 failed" in once
    kept = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(kept[:-1]) + kept[-1][:20])
    assert run("files", "--share", 0.001, "--rows", rows).count(" of 1, 0 failed") == 1
    assert len(rows.read_text().splitlines()) == len(kept)
