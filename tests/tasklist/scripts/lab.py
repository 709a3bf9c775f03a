"""The local module of the other scripts."""
import os


class Result:
    def __init__(self, samples, unit):
        self.samples = samples
        self.unit = unit


class Prepared(dict):
    def __init__(self, item):
        super().__init__({1: item * 10})
        self.thing = f'thing of {item}'


class Trouble(Exception):
    pass


def simulate(a, b):
    return Result([a * b * n for n in range(6)], 'samples' if a > 1 else 'sample(s)')


def prepare(item):
    return Prepared(item)


def analyse(number):
    if number % 2 and not os.path.exists('repaired'):
        raise Trouble('odd', number) if number != 5 else KeyError(number)
    return number


def load(name):
    with open('calls', 'a') as file:
        file.write(name + '\n')
    return {'name': name, 'numbers': [1, 2, 3, complex(4, 5)], 'nested': {'deep': (7, 8)}}
