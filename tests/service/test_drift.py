"""A look at real records and events in a real store: what it says, what it counts once, what it cannot see."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis

from recsys.datasets.dataset import Dataset
from recsys.features.codec import pack
from recsys.features.user import UserStates
from recsys.monitoring.reference import FILE, Reference
from recsys.recommend import recommend
from recsys.registry import Registry
from recsys.training.log import Log
from recsys.training.train import Trained, write
from recsys.types import World
from service.archives import event_archive
from service.decisions import STREAM, Decision
from service.drift import Look, look
from service.errors import StackError
from service.event_log import Event, stream_key
from service.identifiers import recommendation_id
from service.queries import batch_of
from service.rebuild import rebuild
from service.replay import query_of
from service.settings import Settings
from service.state_keys import shard
from service.world import load_world
from tests.service.conftest import BreakableStore

pytestmark = pytest.mark.valkey

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000 // HOUR_MS * HOUR_MS
