from .spec import Study, StudyRun, read_study

__all__ = [
    "Study",
    "StudyRun",
    "read_study",
]
