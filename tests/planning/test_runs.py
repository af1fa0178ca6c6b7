from flarenet.planning.runs import Run


def test_a_run_is_written_as_a_plan_names_it():
    assert str(Run("3DOrgan", 2)) == f"{Run('3DOrgan', 2)}" == "3DOrgan/2"
    assert Run.parse("3DOrgan/2") == ("3DOrgan", 2)
