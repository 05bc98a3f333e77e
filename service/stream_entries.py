"""Entries taken out of a stream for good.

XDEL only marks an entry: its bytes stay in memory and in the append-only file until all of its node, some hundred
entries, is gone. So what stays is copied, page by page, and the copy takes the stream's place in the script that copies
the last page: who reads or appends meanwhile notices nothing, positions and counts are the same.
"""

from collections.abc import Collection

from service.round_trips import Command, RoundTrips
from service.state_keys import beside

PAGE = 100  # entries a script copies while the store answers nobody else: 2 ms of decision records, of 500 10 to 16
# KEYS: stream, copy. ARGV: entries to copy, the last position copied so far, positions to leave out.
# Returns the last position copied now, "" when the copy has taken the stream's place.
_COPY = """
local gone = {}
for i = 3, #ARGV do gone[ARGV[i]] = true end
local page, last = redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', ARGV[1]), ARGV[2]
for _, entry in ipairs(page) do
  last = entry[1]
  if not gone[last] then redis.call('XADD', KEYS[2], last, unpack(entry[2])) end
end
if #page == tonumber(ARGV[1]) then return last end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if first then redis.call('XTRIM', KEYS[2], 'MINID', first[1]) end
if not first or redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  redis.call('DEL', KEYS[2])
  return ''
end
local info, told = redis.call('XINFO', 'STREAM', KEYS[1]), {}
for i = 1, #info, 2 do told[info[i]] = info[i + 1] end
redis.call('XSETID', KEYS[2], told['last-generated-id'], 'ENTRIESADDED', told['entries-added'],
           'MAXDELETEDID', told['max-deleted-entry-id'])
redis.call('RENAME', KEYS[2], KEYS[1])
return ''
"""


async def remove_entries(store: RoundTrips, stream: str, gone: Collection[bytes]) -> None:
    """Take entries out of a stream that others use; dying on the way leaves it as it was, beside a part of a copy.

    Raises:
        RedisError, OSError, TimeoutError: the store failed.
    """
    copy, last = beside(stream, f"{stream}:copy", is_cluster=store.is_cluster), b"0-0"
    await store.demand([("UNLINK", copy)])
    while last:
        command: Command = ("EVAL", _COPY, "2", stream, copy, str(PAGE), last, *gone)
        (last,) = await store.demand([command])
