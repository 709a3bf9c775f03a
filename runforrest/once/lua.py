"""What the Redis server does in one step each: claim, confirm, release, look, list, and beat.

A key is a hash: ``l`` its lineage (random, so that a key that was forgotten and made anew is another one), ``t`` the
token of the last claim, ``r`` the tag of that claim, then of the report of its success, ``s`` its state (the codes
of `runforrest.once.names`), ``o`` its owner, ``h`` the owner's heart, ``i`` the timeout and ``a`` the time of the
claim in milliseconds, ``v`` the value.  An index has all keys, for prefixes.  The clock is the server's.

A server whose memory is used up refuses claims.  What is claimed already can be ended, also with a value, and hearts
beat on: the work is done, and no more than what is in progress can come.
"""

from __future__ import annotations

_COMMON = """
local function now()
    local t = redis.call('TIME')
    return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- a server whose memory is used up refuses a script's first write, if that is one that may need memory
local function room(hash)
    redis.call('HDEL', hash, '')
end
-- the entry as the client gets it: key, state, token, lineage, tag, owner, heart, timeout, time of the claim,
-- whether there is a value, whether the lease is over
local function entry(key, prefix, hearts, ms)
    local f = redis.call('HMGET', prefix .. key, 's', 't', 'l', 'r', 'o', 'h', 'i', 'a')
    if not f[1] then return false end
    local over = 0
    if f[1] == 'L' and tonumber(f[8]) + tonumber(f[7]) <= ms then over = 1 end
    if f[1] == 'H' then
        over = 1 - redis.call('HEXISTS', hearts, f[6])
    end
    return {key, f[1], f[2], f[3], f[4], f[5] or '', f[6] or '', f[7] or '0', f[8] or '0',
            redis.call('HEXISTS', prefix .. key, 'v'), over}
end
"""

#: KEYS: index, hearts.  ARGV: prefix, state, timeout, owner, heart, force, tag, keys …
#: returns {position from 1 or 0, the entry before, the hearts of keys that were passed over}
CLAIM = _COMMON + """
local prefix, ms, met = ARGV[1], now(), {}
local last = false
for n = 8, #ARGV do
    local key = ARGV[n]
    local before = entry(key, prefix, KEYS[2], ms)
    local state = before and before[2]
    if before and state == ARGV[2] and before[5] == ARGV[7] then    -- asked again: the reply was lost
        return {n - 7, before, met, before[3], before[4]}
    end
    if not before or state == 'F' or before[11] == 1 or ARGV[6] == '1' then
        local lineage = before and before[4] or ARGV[7]
        local token = (before and tonumber(before[3]) or 0) + 1
        redis.call('HSET', prefix .. key, 's', ARGV[2], 't', token, 'l', lineage, 'r', ARGV[7], 'o', ARGV[4],
                   'h', ARGV[5], 'i', ARGV[3], 'a', ms)        -- first: refused when the memory is used up
        redis.call('HDEL', prefix .. key, 'v')
        redis.call('ZADD', KEYS[1], 0, key)
        return {n - 7, before, met, tostring(token), lineage}
    end
    if state == 'H' then met[#met + 1] = before[7] end
    last = before
end
return {0, last, met, '', ''}
"""

#: KEYS: hearts.  ARGV: prefix, key, lineage, token, tag, new tag, new state, whether a value, value
#: 1 if it was done now, or by the same call; else the entry
END = _COMMON + """
local key = ARGV[1] .. ARGV[2]
local f = redis.call('HMGET', key, 'l', 't', 'r', 's')
if f[1] == ARGV[3] and f[2] == ARGV[4] then
    if f[3] == ARGV[6] and f[4] == ARGV[7] then return 1 end
    if f[3] == ARGV[5] and (f[4] == 'L' or f[4] == 'H' or (f[4] == 'P' and ARGV[7] ~= 'D')) then
        room(key)
        redis.call('HSET', key, 's', ARGV[7], 'r', ARGV[6])
        if ARGV[8] == '1' then redis.call('HSET', key, 'v', ARGV[9]) end
        return 1
    end
end
return entry(ARGV[2], ARGV[1], KEYS[1], now())
"""

#: KEYS: hearts.  ARGV: prefix, keys …
LOOK = _COMMON + """
local found, ms = {}, now()
for n = 2, #ARGV do
    local e = entry(ARGV[n], ARGV[1], KEYS[1], ms)
    if e then found[#found + 1] = e end
end
return found
"""

#: KEYS: the key.  ARGV: tag.  The hash stays, so that tokens go on growing.
FORGET = """
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HDEL', KEYS[1], 'v')
    redis.call('HINCRBY', KEYS[1], 't', 1)
    redis.call('HSET', KEYS[1], 's', 'F', 'r', ARGV[1])
end
return 1
"""

#: KEYS: hearts.  ARGV: owner, number, new number, or '' if it has stopped.  Values are '<number> <identity>'.
BEAT = _COMMON + """
local beat = redis.call('HGET', KEYS[1], ARGV[1])
if not beat then return 0 end
local number, rest = string.match(beat, '^(%w+) (.*)$')
if number == ARGV[3] then return 1 end
if number ~= ARGV[2] then return 0 end
if ARGV[3] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
room(KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. rest)
return 1
"""
