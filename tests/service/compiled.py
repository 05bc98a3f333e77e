"""By being imported, this runs the compiled code of an updater once; loading it takes a process 0.8 s."""

from recsys.features.codec import unpack
from recsys.features.matrix import SCHEMA_HASH
from tests.service.test_updater import by_the_log, some_events

_EVENTS = [(b"%d-0" % number, event) for number, event in enumerate(some_events(100, seed=0), start=1)]
unpack(list(by_the_log(_EVENTS).values()), SCHEMA_HASH)
