"""The page at `/`: a search box over the stored items, or a query and documents to rank."""

from pairstill.serving.page.routes import PAGE_PATHS, page_router

__all__ = ["PAGE_PATHS", "page_router"]
