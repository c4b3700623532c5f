"""What is wrong with a request, in words that do not need Hydra's internals."""


class ConfigError(ValueError):
    """What a user asked for does not make a configuration."""


def describe(error: Exception) -> str:
    """The first lines of a Hydra or OmegaConf error, without its advice on internals."""
    message = str(error).partition("Config search path:")[0]
    return "\n".join(line for line in message.splitlines() if line.strip() and "To append" not in line)


def first_line(error: Exception, otherwise: str = "no message") -> str:
    """The first line of what an error says.

    Args:
        error: Exception, of any kind, with a message of any number of lines.
        otherwise: Text for one that says nothing.
    """
    return str(error).splitlines()[0] if str(error) else otherwise
