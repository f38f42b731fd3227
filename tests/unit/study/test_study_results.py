"""The numbers of a report against closed forms, scipy and the paper's table."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from maquette.errors import MaquetteError
from maquette.study.design import Difference, Question, Ranking
from maquette.study.make import make
from maquette.study.precision import Precision
from maquette.study.ranks import Ranks
from maquette.study.report import Report
from maquette.study.statistics import Average, binomial_p, kendalls_w
from maquette.study.store import Answer, Store


def test_kendalls_w_is_1_in_unison_0_in_opposition_and_friedmans_statistic() -> None:
    ranks = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    assert kendalls_w(ranks) == 1
    assert kendalls_w(np.array([[1, 2, 3, 4], [4, 3, 2, 1]])) == 0
    ranks = np.array([np.random.default_rng(seed).permutation(5) + 1 for seed in range(12)])
    assert kendalls_w(ranks) == pytest.approx(stats.friedmanchisquare(*ranks.T).statistic / (12 * (5 - 1)))


def test_guessing_agrees_by_one_over_the_raters() -> None:
    random = np.random.default_rng(0)
    drawn = [kendalls_w(np.array([random.permutation(5) + 1 for _ in range(12)])) for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(1 / 12, abs=0.004)


@pytest.mark.parametrize(("right", "asked"), [(0, 1), (5, 10), (7, 10), (120, 200), (1248, 2400), (0, 200)])
def test_the_binomial_test_is_scipys(right, asked) -> None:
    assert binomial_p(right, asked) == pytest.approx(stats.binomtest(right, asked).pvalue, rel=1e-9)


def test_an_average_of_one_rater_has_no_deviation() -> None:
    assert str(Average.of(np.array([4.2]))) == "4.20"
    assert Average.of(np.array([4.2])).bounds == "–"
    assert str(Average.of(np.array([4.0, 4.4]))) == "4.20 ± 0.28"


def test_average_ranks_are_those_of_a_slow_loop() -> None:
    """Ranks are counted by method, whatever the place at which it was shown; 1 is worst; deviations are over raters."""
    random, answers, slow = np.random.default_rng(1), [], np.zeros((6, 20, 5))
    for rater in range(6):
        for item in range(20):
            shown, order = random.permutation(5), random.permutation(5)
            question = Question("quality", item, tuple(map(int, shown)))
            answers.append(Answer(str(rater), item, question, list(map(int, order)), ""))
            for rank, place in zip((5, 4, 3, 2, 1), order, strict=True):
                slow[rater, item, shown[place]] = rank
    ranks = Ranks.of(answers, "abcde")
    means = slow.mean(axis=1)
    assert [one.mean for one in ranks.averages["quality"]] == pytest.approx(means.mean(axis=0))
    assert [one.deviation for one in ranks.averages["quality"]] == pytest.approx(means.std(axis=0, ddof=1))
    agreed = [kendalls_w(slow[:, item]) for item in range(20)]
    assert ranks.agreements["quality"].w.mean == pytest.approx(np.mean(agreed))
    assert ranks.agreements["quality"].chance == pytest.approx(1 / 6)


def test_the_papers_ranks_can_only_deviate_so_little_over_raters() -> None:
    """1.02 ± 0.01: single ranks of that mean deviate by 0.14 at least, so the paper's ± is over raters' averages."""
    assert np.sqrt((1.02 - 1) * (2 - 1.02)) > 0.13
    assert sum([1.10, 3.21, 2.52, 3.93, 4.22]) == pytest.approx(15, abs=0.025)  # 1 + … + 5: no ties


def test_precision_is_right_over_asked_for_each_rater() -> None:
    question = Question("tell", 0, (1,), truth=1)
    told = [Answer("a", n, question, int(n < 150), "") for n in range(200)]
    told += [Answer("b", n, question, int(n < 90), "") for n in range(200)]
    precision = Precision.of([*told, Answer("b", 300, Question("learn", 1, (0, 1)), None, "")])
    assert str(precision.average) == "0.60 ± 0.21"
    assert (precision.together.right, precision.together.asked) == (240, 400)
    assert precision.raters["a"].p == pytest.approx(stats.binomtest(150, 200).pvalue)
    assert "240 of 400 answers are right (two-sided exact binomial test: p < 0.0001)." in precision.markdown()


def answer_all(store: Store, names: set[str], prefer: list[int]) -> None:
    """Have raters rank methods in a fixed order, or tell them by luck."""
    for rater in store.raters():
        while rater.name in names and (pages := store.pages(rater.token)):
            page = pages[0]
            addresses = {address: method for (_, method), address in store.addresses.items()}
            methods = [addresses[address] for address in page["images"]]
            value = None if page["kind"] == "learn" else 0
            if page["kind"] in ("quality", "fidelity"):
                value = sorted(range(len(methods)), key=lambda place: prefer.index(methods[place]))
            store.answer(rater.token, page["place"], value)


def test_a_report_counts_those_who_finished(ranking, tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"^No rater has finished yet, 0 of 4 have begun\.$"):
        Report.of(ranking)
    ranking.answer(ranking.raters()[3].token, 0, [0, 1, 2])
    with pytest.raises(MaquetteError, match=r"1 of 4 have begun; --unfinished counts their answers so far\.$"):
        Report.of(ranking)
    answer_all(ranking, {"1", "2"}, [0, 2, 1])
    report = Report.of(ranking)
    assert "| ours | 3.00 ± 0.00 | 3.00 to 3.00 | 3.00 ± 0.00 |" in report.markdown()
    assert "| sgd | 1.00 ± 0.00 |" in report.markdown()
    assert "Agreement on quality: Kendall's W 1.00 (1.00 to 1.00) over 4 items; 0.50 if all guessed." in str(
        report.markdown()
    )
    assert report.markdown().endswith(
        "2 of 4 raters have finished; the answers of 2 count, those of 1 others who began do not."
    )
    assert len(Report.of(ranking, unfinished=True).counted) == 3
    report.save(tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["result"]["quality"]["methods"]["ours"]["mean"] == 3
    lines = (tmp_path / "out" / "answers.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * (2 * 8 + 1)


def test_a_difference_from_folder_to_report(folders, tmp_path) -> None:
    two = {name: folders[name] for name in ("ours", "sgd")}
    store = make(tmp_path / "study", two, Difference(1, 3), raters=["scripted"], seed=0)
    answer_all(store, {"scripted"}, [])
    report = Report.of(store)
    right = sum(one.value == one.question.truth for one in store.answers() if one.question.kind == "tell")
    assert report.result.together.right == right
    assert f"| scripted | {right} of 3 |" in report.markdown()
    assert json.dumps(report.values(), allow_nan=False)
    assert isinstance(report.save(Path(tmp_path))[0], Path)


def test_one_rater_ranks_without_agreement(folders, tmp_path) -> None:
    store = make(tmp_path / "study", folders, Ranking(2), raters=1, seed=0)
    answer_all(store, {"1"}, [0, 1, 2])
    assert "none to be had" in Report.of(store).markdown()
    json.dumps(Report.of(store).values(), allow_nan=False)
