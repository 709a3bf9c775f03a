"""What tasks print comes out where this script prints."""
from runforrest import TaskList, defer


def speak(word):
    print(f'task says {word}')
    return len(word)


tasklist = TaskList('list')
tasklist.schedule(defer(speak, 'hello'))
for task in tasklist.run(nprocesses=1):
    print(task.returnvalue, task.errorvalue)
print('end')
