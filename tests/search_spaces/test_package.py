import search_spaces


def test_every_public_name_can_be_had() -> None:
    for name in search_spaces.__all__:
        assert getattr(search_spaces, name) is not None
    assert set(search_spaces.__all__) <= set(dir(search_spaces))


def test_options_is_the_function_whatever_was_imported_before() -> None:
    import search_spaces.options

    assert search_spaces.options() == {**search_spaces.OPTIONS, **search_spaces.options()}


def test_other_names_are_missing_as_in_any_module() -> None:
    assert not hasattr(search_spaces, "nothing_of_this_name")
