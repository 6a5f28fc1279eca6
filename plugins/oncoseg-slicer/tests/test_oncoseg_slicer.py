import oncoseg_slicer


def test_the_library_needs_no_slicer_to_be_imported():
    assert oncoseg_slicer.__doc__
