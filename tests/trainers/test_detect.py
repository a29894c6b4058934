"""What the detector's lines hold, and that they are read back."""

from tfpurify.evaluation.detection import FALSE_ALARMS, read_detection
from tfpurify.report.further_tables import Beside
from tfpurify.report.writing import tables_markdown
from trainers import detect

OPTIONS = {
    "dataset": "mnist",
    "data_source": "embedded",
    "data_dir": None,
    "defense": "puvae",
    "epsilon": None,
    "num_steps": 5,
    "limit": 10,
    "clean_limit": 100,
    "seed": 0,
    "output_dir": None,
    "results_file": None,
}


def test_each_attack_has_a_line_and_blind_ones_are_found(tmp_path):
    path = tmp_path / "detection.jsonl"
    lines = detect.detect({**OPTIONS, "results_file": path})
    assert read_detection(path) == lines
    kinds = [(r["threat_model"], r["attack"], r["knows_detector"]) for r in lines]
    assert kinds == [
        ("blind", "advgan", False),
        ("blind", "pgd", False),
        ("whitebox", "pgd", False),
        ("whitebox", "pgd", True),
    ]
    assert lines[0]["auc"] > 0.8
    for line in lines:
        loose, tight = line["undetected_success_rates"]  # at 1 % and 5 % false alarms
        assert 0 <= tight <= loose <= line["success_rate"] <= 1
        assert len(line["thresholds"]) == len(FALSE_ALARMS)
        assert line["false_positive_rates"][-1] == line["true_positive_rates"][-1] == 1
    assert lines[3]["undetected_success_rates"][1] >= lines[2]["undetected_success_rates"][1]
    assert "Table 11" in tables_markdown([], Beside(detection=lines))
