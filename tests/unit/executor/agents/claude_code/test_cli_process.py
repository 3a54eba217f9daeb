"""How the end of a process is told."""

from executor.agents.claude_code.cli_process import describe_status


def test_how_a_process_ended_is_said_in_words() -> None:
    assert describe_status(1) == "exit status 1"
    assert describe_status(-9) == "killed by SIGKILL"
    assert describe_status(-250) == "killed by signal 250"
