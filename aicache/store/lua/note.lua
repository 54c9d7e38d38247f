-- note
-- Remember what a call has read of the prompt cache and written to it, and let those go who wait for it at the gate.
-- KEYS: the prefixes, the shortest first; then the gates that may be one's own
-- ARGV: how many prefixes, token ('' = no gate is), the word for those who wait, tokens read, the least share of a
--       prefix's tokens that means it was read; then for each that ends at a breakpoint: which, its life in ms, its
--       tokens (0 = too short to be kept), whether they are exact
-- → which of them lived before (0 = none), ms since it was written, its tokens, whether they were exact, whether read
local count, read = tonumber(ARGV[1]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = math.floor(clock[1] * 1000 + clock[2] / 1000)
local reply = {0, 0, 0, 0, 0}
for i = count, 1, -1 do
  local written, tokens, exact, known, life =
    unpack(redis.call('HMGET', KEYS[i], 'at', 'tokens', 'exact', 'read', 'life'))
  if written and tonumber(tokens) > 0 then
    reply = {i, now - tonumber(written), tonumber(tokens), tonumber(exact), tonumber(known)}
    if read > 0 and (exact == '0' or read >= tonumber(tokens) * tonumber(ARGV[5])) then
      redis.call('HSET', KEYS[i], 'read', 1)
      if exact == '0' then
        redis.call('HSET', KEYS[i], 'tokens', read, 'exact', 1)
      end
      redis.call('PEXPIRE', KEYS[i], life) -- the provider lets it live on too
    end
    break
  end
end

for i = 6, #ARGV, 4 do
  local key, life, tokens, exact = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local known = redis.call('HGET', key, 'tokens')
  if not known or (known == '0' and tokens ~= '0') then
    redis.call('DEL', key)
    redis.call('HSET', key, 'at', now, 'tokens', tokens, 'exact', exact, 'read', 0, 'life', life)
    redis.call('PEXPIRE', key, life)
  elseif tokens ~= '0' then
    if exact == '1' then
      redis.call('HSET', key, 'tokens', tokens, 'exact', 1)
    end
    if redis.call('PTTL', key) < tonumber(life) then
      redis.call('HSET', key, 'life', life)
      redis.call('PEXPIRE', key, life)
    end
  end
end

local ears = {}
for i = count + 1, #KEYS do
  if ARGV[2] ~= '' and redis.call('HGET', KEYS[i], 'token') == ARGV[2] then
    for _, ear in ipairs(redis.call('HKEYS', KEYS[i])) do
      if string.find(ear, ':', 1, true) and not ears[ear] then
        ears[ear] = true
        redis.pcall('PUBLISH', ear, ARGV[2] .. ARGV[3])
      end
    end
    redis.call('DEL', KEYS[i])
  end
end
return reply
