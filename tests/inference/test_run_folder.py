"""What a run folder keeps beside rows and results."""

from refine.inference.run_folder import RunFolder


def opened(output, **settings) -> RunFolder:
    run_folder = RunFolder(output, settings)
    run_folder.open()
    return run_folder


def test_the_id_of_a_run_is_that_of_its_configuration(tmp_path):
    found = []
    for value in (1, 2, 1):
        found.append((run_folder := opened(tmp_path, a=value)).run_id())
        run_folder.release()
    assert found[0] == found[2] != found[1] and len(found[0]) == 8


def test_an_id_that_is_given_is_kept(tmp_path):
    run_folder = opened(tmp_path, a=1)
    assert run_folder.run_id() != run_folder.run_id("given") == run_folder.run_id() == "given"


def test_two_processes_at_work_are_two_runs(tmp_path):
    first, second = opened(tmp_path, a=1), opened(tmp_path, a=1)
    assert first.run_id() != second.run_id() and second.run_id("given") == "given"
    first.release()
    second.release()
    assert opened(tmp_path, a=1).run_id() == first.run_id()
