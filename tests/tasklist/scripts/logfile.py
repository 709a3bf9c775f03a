"""The logfile, read the way a script would: time, name, event."""
import collections
import re
import sys
import time

from runforrest import TaskList, defer


def talk(number):
    print('this is', number)
    print('an error message of', number, file=sys.stderr)
    if number == 2:
        raise RuntimeError('two')
    return number


tasklist = TaskList('list', logfile='events.log')
for number in range(4):
    tasklist.schedule(defer(talk, number))
results = [task.returnvalue for task in tasklist.run(nprocesses=2)]
events = collections.defaultdict(list)
with open('events.log') as log:
    for line in log:
        when, name, event = line.rstrip('\n').split(' ', 2)
        time.strptime(when, '%Y-%m-%dT%H:%M:%S')
        assert re.fullmatch(r'[\w.,@()+=-]+\.pkl', name), name
        if event in ('schedule', 'start', 'done', 'fail'):
            events[name].append(event)
print(len(events))
for history in sorted(events.values()):
    print(history)
with open('events.log') as log:
    text = log.read()
print(all(f'this is {number}' in text and f'an error message of {number}' in text for number in range(4)))
