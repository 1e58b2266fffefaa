# One body for all commands; it is told by its name which one it is. Standard library only, started with -S: quick.
import json
import os
import re
import sys
import time

NAME = os.path.basename(sys.argv[0])  # noqa: PTH119
FILE = os.environ["FAKE_SLURM"]


def main():
    with open(FILE) as file:  # noqa: PTH123
        state = json.load(file)
    with open(os.path.join(os.path.dirname(FILE), "calls"), "a") as file:  # noqa: PTH118, PTH120, PTH123
        file.write(json.dumps([NAME, *sys.argv[1:]]) + "\n")
    answer = state.get(NAME)
    if isinstance(answer, list):
        # One answer after the other; None and the end of the list mean the usual one.
        answer, state[NAME] = (answer[0], answer[1:]) if answer else (None, [])
        save(state)
    if isinstance(answer, dict) and NAME != "scontrol":
        if "sleep" in answer:
            time.sleep(answer["sleep"])
        if answer.get("submits"):
            submit(state)
        sys.stdout.write(answer.get("stdout", ""))
        sys.stderr.write(answer.get("stderr", ""))
        sys.exit(answer.get("exit", 0))
    if isinstance(answer, str):
        sys.stdout.write(answer)
        return
    if NAME == "sbatch":
        print(submit(state))
    elif NAME == "scontrol":
        scontrol(state)
    elif NAME == "squeue" and any(word.startswith("--name=") for word in sys.argv):
        name = next(word[7:] for word in sys.argv if word.startswith("--name="))
        for job in state["jobs"]:
            if job["job-name"] == name:
                print(job["id"])
    elif NAME == "squeue":
        asked = next((word[7:] for word in sys.argv if word.startswith("--jobs=")), "").split(",")
        for job in state["jobs"]:
            if job["id"] in asked:
                array = job.get("array", "")
                print(f"{job['id']}_[{array}]|PENDING|N/A||{'Dependency' if 'dependency' in job else 'Priority'}")


def submit(state):
    with open(sys.argv[-1]) as file:  # noqa: PTH123
        script = file.read()
    flags = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))
    job = {"id": str(state["next"]), **flags}
    state["next"] += 1
    state["jobs"].append(job)
    save(state)
    return job["id"]


def scontrol(state):
    said = state.get("scontrol", {})
    for word, text in said.items():
        if word in sys.argv:
            if isinstance(text, dict):
                sys.stderr.write(text.get("stderr", ""))
                sys.exit(text.get("exit", 1))
            sys.stdout.write(text)


def save(state):
    temporary = FILE + f".{os.getpid()}"
    with open(temporary, "w") as file:  # noqa: PTH123
        json.dump(state, file)
    os.replace(temporary, FILE)  # noqa: PTH105


main()
