"""What all tables of auth belong to, in whichever module they stand."""

from typing import Final

from sqlalchemy import MetaData

metadata: Final = MetaData(
    naming_convention={  # names that a migration can rely on
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
