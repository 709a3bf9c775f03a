"""scikit-learn's grid search as tasks of a list: `python examples/sklearn_grid_search.py`.

Needs scikit-learn.  Each fit is a task, with its output, its memory and its traceback if it fails, and runners on other
hosts may help: `runforrest run FOLDER/tasks` while it runs.

`python examples/sklearn_grid_search.py FOLDER` makes the task list there; without FOLDER it goes into a new
temporary folder, which stays until you remove it.
"""

import os
import sys
import tempfile

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import runforrest.futures.joblib  # makes the backend known
from runforrest import TaskList

GRID = {"C": [0.1, 1.0, 10.0], "gamma": [0.0001, 0.001, 0.01]}


def main():
    home = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="runforrest-")
    directory = os.path.join(home, "tasks")
    X, y = load_digits(return_X_y=True)
    with joblib.parallel_config(backend=runforrest.futures.joblib.NAME, directory=directory, n_jobs=2):
        search = GridSearchCV(SVC(), GRID, cv=3).fit(X, y)
    print("best:", search.best_params_, f"with {search.best_score_:.3f}")
    done = list(TaskList(directory, exist_ok=True, pre_clean=False).done_tasks())
    seconds = sum(task.runtime for task in done)
    print(f"{len(done)} tasks with {len(search.cv_results_['params']) * 3} fits took {seconds:.1f} s together")
    print(f"The task list is in {directory}")


if __name__ == "__main__":
    sys.exit(main())
