"""Times to recover, computed from what was seen."""

from __future__ import annotations

import unittest
from types import SimpleNamespace

from . import report
from .story import Answer, Found, Story
from .wire import DELIVERED, POSTED, SEALED


def seen(topic, arrived, written, cause):
    return [topic, 0, 0, "", arrived, written * 1000, cause]


def fault(kind, target, at, since, until):
    return {"kind": kind, "target": target, "at": at, "since": since, "until": until}


def answer(sent, at):
    return Answer("t", "k", "first", "sealed", 201, "", False, "", "", "", "", sent, at)


class Recovery(unittest.TestCase):
    def test_counts_what_the_new_process_wrote_in_every_partition(self):
        found = Found(faults=[fault("kill", "sign", 10.0, 10.5, 12.0)])
        found.watched = [
            seen(SEALED, 10.2, 9.9, "0:1:0"),  # written before
            seen(SEALED, 13.0, 12.9, "0:2:0"),
            seen(SEALED, 14.0, 13.9, "0:3:0"),
            seen(SEALED, 15.5, 15.4, "1:1:0"),
            seen(POSTED, 30.0, 29.0, "0:1:0"),
        ]
        self.assertEqual(report.recovery(found, Story()), {"kill sign": [5.5]})

    def test_counts_from_the_end_of_what_lasts(self):
        found = Found(faults=[fault("stop", "settle", 10.0, 16.0, 16.0)])
        found.watched = [seen(POSTED, 15.0, 15.0, "0:1:0"), seen(POSTED, 16.5, 16.4, "0:2:0")]
        self.assertEqual(report.recovery(found, Story()), {"stop": [0.5]})

    def test_takes_any_outcome_of_a_delivery(self):
        found = Found(faults=[fault("kill", "forward.2", 10.0, 10.0, 11.0)])
        found.watched = [seen(DELIVERED, 12.0, 11.0, "0:1:0"), seen(DELIVERED, 50.0, 50.0, "1:1:0")]
        self.assertEqual(report.recovery(found, Story()), {"kill forward": [2.0]})

    def test_takes_answers_where_no_reader_sees_the_log(self):
        story = Story(answers=[answer(9.0, 13.0), answer(11.0, 12.5), answer(12.0, 12.25)])
        found = Found(faults=[fault("kill", "up", 10.0, 10.5, 11.0)])
        self.assertEqual(report.recovery(found, story), {"kill up": [2.25]})

    def test_waits_for_view_until_it_is_ready(self):
        self.assertEqual(report.recovery(Found(faults=[fault("kill", "view", 10.0, 10.1, 13.0)]), Story()), {"kill view": [3.0]})

    def test_that_takes_too_long_does_not_hold(self):
        self.assertTrue(report.recovered({"kill": [1.0, 2.0]}, 2.0).holds)
        self.assertFalse(report.recovered({"kill": [1.0, 2.1]}, 2.0).holds)

    def test_of_what_did_not_come_back_is_missing(self):
        self.assertEqual(report.recovery(Found(faults=[fault("kill", "up", 10.0, 10.5, 11.0)]), Story()), {})

    def test_a_run_with_a_planned_fault_left_out_does_not_hold(self):
        options = SimpleNamespace(profile="local", minutes=1, seed=1, recover_within=None)
        made = report.make(options, [object()], Story(), Found(has_log=False), [], [], 0, 0.0, 0.0)
        self.assertFalse(made["holds"])
        self.assertIn("NOT everything holds", report.told(made))
        self.assertTrue(report.make(options, [], Story(), Found(has_log=False), [], [], 0, 0.0, 0.0)["holds"])


if __name__ == "__main__":
    unittest.main()
