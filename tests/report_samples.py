"""A comparison, and a page that is checked as it is read, for the tests of the report."""

from html.parser import HTMLParser

from evaluation_samples import synthetic, tuple_set
from pairstill.evaluation.comparison import compare
from pairstill.evaluation.cost import Cost, CostReferences, Timing
from pairstill.evaluation.floors import floor_systems

VOID = {"meta", "br", "hr", "img", "input", "link"}


def cost(rate):
    timing = Timing(rate, rate * 0.9, rate * 1.1, 5, "pairs", "PyTorch", "bfloat16", 2, 256, (3.0, 9.0))
    return Cost(timing, timing, (timing, timing), 6.1e6, (1e7, 2e7), (4096, 12288), timing, 0.998)


def comparison(kind="graded", title="A title", splits=("test", "valid"), costs=True):
    one = tuple_set(kind)
    rows = {split: one.split(split) for split in splits}
    outputs = one.labels.outputs
    names = (("big", "teacher", 0.3, 1000.0), ("tsf & <co>", "student", 0.8, 30_000.0), ("de_cos", "student", 1.5, 2e6))
    systems = [
        synthetic(rows, name, role, noise, outputs, seeds=1 + (role == "student"), cost=cost(rate) if costs else None)
        for name, role, noise, rate in names
    ]
    floors, _ = floor_systems(one, rows, None)
    references = CostReferences(systems[0].cost.head, (cost(10.0).head,), ("A note.",)) if costs else None
    return compare(
        one, rows, [*systems, *floors], slices=["length"], resamples=50, references=references, title=title,
        machine={"processor": "A processor", "cores": 2}, warnings=["A warning."],
    )  # fmt: skip


class Page(HTMLParser):
    """Collects what a browser would fetch, checks that tags are balanced."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.references.append(value)
            assert name != "onload"
        assert tag not in ("script", "link", "iframe", "img", "object", "base")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
